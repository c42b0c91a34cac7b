// A file's bytes on their way out: at the server's and the connection's speed, with pauses, and as far as the fault lets them.
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Connection } from './connection.ts'
import { type Fault, faultOffset } from './fault.ts'
import type { ServedPath } from './served-path.ts'
import { maxChunkBytes, type Throttle } from './throttle.ts'

export interface Body {
  readonly at: ServedPath
  readonly fault: Fault | undefined
  readonly connection: Connection
  /** Of all connections together. */
  readonly throttle: Throttle
  readonly file: string
  readonly start: number
  readonly end: number
}

export async function sendBody(body: Body, to: ServerResponse | Socket): Promise<void> {
  const { at, fault, file, start, end } = body
  to.once('close', () => at.wake())
  const stream = createReadStream(file, { start, end: Math.max(start, end - 1), highWaterMark: maxChunkBytes })
  const sender = new Sender(body, to)
  try {
    for await (const block of stream as AsyncIterable<Buffer>) if (!(await sender.send(block))) return
    if (fault?.kind === 'endless-body') while (await sender.send(Buffer.alloc(maxChunkBytes)));
    else to.end()
  } finally {
    stream.destroy()
  }
}

class Sender {
  readonly #body: Body
  readonly #to: ServerResponse | Socket
  readonly #limit: number
  readonly #chunkBytes: number
  #offset: number

  constructor(body: Body, to: ServerResponse | Socket) {
    const { fault, start, throttle, connection } = body
    this.#body = body
    this.#to = to
    this.#offset = start
    this.#limit = faultOffset(fault, start)
    this.#chunkBytes = Math.min(maxChunkBytes, throttle.smoothChunk(), connection.throttle.smoothChunk())
  }

  /** Whether there may be more. */
  async send(block: Buffer): Promise<boolean> {
    const { at, connection } = this.#body
    for (let sent = 0; sent < block.length; ) {
      // A pause or a fault may lie inside a block: the bytes before it go out.
      const pausedAt = Math.max(at.pausedAt ?? Number.POSITIVE_INFINITY, this.#offset)
      const most = Math.min(this.#limit - this.#offset, pausedAt - this.#offset, connection.leftBytes, this.#pieceBytes)
      const chunk = block.subarray(sent, sent + Math.max(0, most))
      if (chunk.length > 0) {
        if (!(await this.#write(chunk))) return false
        sent += chunk.length
      } else if (this.#offset >= this.#limit) {
        await this.#breakOff()
        return false
      } else if (connection.leftBytes <= 0) {
        connection.die()
        return false
      } else {
        await at.until((path) => path.pausedAt === undefined || path.pausedAt > this.#offset || isGone(this.#to))
        if (isGone(this.#to)) return false
      }
    }
    return true
  }

  get #pieceBytes(): number {
    const { fault } = this.#body
    if (fault?.kind !== 'pieces') return this.#chunkBytes
    const before = (fault.fromByte ?? 0) - this.#offset
    return Math.min(this.#chunkBytes, before > 0 ? before : fault.bytes)
  }

  async #write(chunk: Buffer): Promise<boolean> {
    const { at, fault, throttle, connection } = this.#body
    await Promise.all([throttle.take(chunk.length), connection.throttle.take(chunk.length)])
    const isPiece = fault?.kind === 'pieces' && this.#offset >= (fault.fromByte ?? 0)
    if (isPiece && fault.everyMs !== undefined) await sleep(fault.everyMs)
    if (!(await written(this.#to, chunk))) return false
    this.#offset += chunk.length
    connection.carry(chunk.length)
    at.bytesServed += chunk.length
    at.wake()
    return true
  }

  async #breakOff(): Promise<void> {
    const { fault } = this.#body
    if (fault?.kind === 'stall' && !isGone(this.#to)) await once(this.#to, 'close')
    if (fault?.kind === 'cut' && fault.reset) socketOf(this.#to)?.resetAndDestroy()
    this.#to.destroy()
  }
}

function socketOf(to: ServerResponse | Socket): Socket | null {
  return 'socket' in to ? to.socket : to
}

export function isGone(to: ServerResponse | Socket): boolean {
  return to.destroyed || socketOf(to)?.destroyed === true
}

/** Whether the kernel took the bytes. */
export async function written(to: ServerResponse | Socket, chunk: Buffer | string): Promise<boolean> {
  if (isGone(to)) return false
  const writable: Writable = to
  return new Promise((resolve) => {
    const onClose = () => resolve(false)
    writable.once('close', onClose)
    writable.write(chunk, (error) => {
      writable.off('close', onClose)
      resolve(!error)
    })
  })
}
