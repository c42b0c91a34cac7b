// One TCP connection of the model server: its number, its own speed, and its own end.
import type { Socket } from 'node:net'
import { Throttle } from './throttle.ts'

export interface ConnectionLimits {
  /** Default: as fast as it can. */
  readonly bytesPerSecond?: number
  /** The connection is cut once it has carried so many body bytes, over all its answers. */
  readonly diesAfterBytes?: number
  /** It dies by RST. Default: `false`. */
  readonly reset?: boolean
}

export class Connection {
  readonly ordinal: number
  readonly throttle: Throttle
  readonly #limits: ConnectionLimits
  readonly #socket: Socket
  #carriedBytes = 0

  constructor(socket: Socket, ordinal: number, limits: ConnectionLimits) {
    this.#socket = socket
    this.#limits = limits
    this.ordinal = ordinal
    this.throttle = new Throttle(limits.bytesPerSecond)
  }

  /** Body bytes that it may still carry. */
  get leftBytes(): number {
    return (this.#limits.diesAfterBytes ?? Number.POSITIVE_INFINITY) - this.#carriedBytes
  }

  carry(bytes: number): void {
    this.#carriedBytes += bytes
  }

  die(): void {
    if (this.#limits.reset) this.#socket.resetAndDestroy()
    else this.#socket.destroy()
  }
}
