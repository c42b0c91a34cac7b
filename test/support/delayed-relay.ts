// A relay that delays what goes through it, as a long way does: for how a download behaves there, not for figures. Opening a
// connection takes no time; its first answer comes a round trip after its first request.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

export interface DelayedRelayOptions {
  /** `http://127.0.0.1:8000` */
  readonly to: string
  /** There and back. */
  readonly roundTripMs: number
  /** So many bytes may be under way in each direction of each connection. Default: 4 MiB. */
  readonly windowBytes?: number
}

export class DelayedRelay implements AsyncDisposable {
  readonly origin: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(server: Server, to: URL) {
    this.#server = server
    this.origin = `${to.protocol}//127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  static async start({ to, roundTripMs, windowBytes = 4 * 1024 * 1024 }: DelayedRelayOptions): Promise<DelayedRelay> {
    const url = new URL(to)
    const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const relay = new DelayedRelay(server, url)
    server.on('connection', (near) => {
      const far = connect({ host: url.hostname, port: Number(url.port), allowHalfOpen: true })
      for (const socket of [near, far]) relay.#keep(socket)
      const way = { delayMs: roundTripMs / 2, windowBytes }
      carry(near, far, way)
      carry(far, near, way)
    })
    return relay
  }

  /** Cuts all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => this.#sockets.delete(socket))
  }
}

interface Way {
  readonly delayMs: number
  readonly windowBytes: number
}

/** Timers of one delay run out in the order in which they were set. */
function carry(from: Socket, to: Socket, { delayMs, windowBytes }: Way): void {
  let underWay = 0
  from.on('data', (chunk) => {
    underWay += chunk.length
    if (underWay >= windowBytes) from.pause()
    setTimeout(() => {
      const onWritten = () => {
        underWay -= chunk.length
        if (underWay < windowBytes) from.resume()
      }
      if (to.destroyed) onWritten()
      else to.write(chunk, onWritten)
    }, delayMs)
  })
  from.once('end', () => setTimeout(() => to.end(), delayMs))
  from.once('close', () => setTimeout(() => to.destroySoon(), delayMs))
}
