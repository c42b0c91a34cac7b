// A real HTTP server for model files: ranges, validators, conditional requests and HEAD as a good server has them, a throttle, an
// exact count of the bytes that went out, and every fault that a downloader must survive. Used by tests and the demo. Its parts
// are in model-server/; hub.ts there is a hub with a CDN behind it.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { answeredBare } from './model-server/bare-answer.ts'
import { Connection, type ConnectionLimits } from './model-server/connection.ts'
import type { Exchange } from './model-server/exchange.ts'
import type { Fault } from './model-server/fault.ts'
import { sendFile } from './model-server/file-answer.ts'
import type { ReceivedRequest, ServedFile } from './model-server/served-file.ts'
import { ServedPath } from './model-server/served-path.ts'
import { Throttle } from './model-server/throttle.ts'

export type { Fault } from './model-server/fault.ts'
export { etagPerNode, type Part, type ReceivedRequest, type ServedFile } from './model-server/served-file.ts'

export interface ModelServerOptions {
  /** Limit of all connections together. */
  readonly bytesPerSecond?: number
  /** Limit of each connection. */
  readonly bytesPerSecondPerConnection?: number
  /** Limits of single connections, which are counted from 1. `undefined`: those of all. */
  readonly connection?: (ordinal: number) => ConnectionLimits | undefined
  /** Default: a free one. */
  readonly port?: number
  /** Default: `127.0.0.1`. */
  readonly host?: string
  /** Makes it an HTTPS server. */
  readonly tls?: { readonly key: string; readonly cert: string }
}

/** Answers what no file is served for. Resolves with whether it did. */
export type Route = (request: IncomingMessage, response: ServerResponse, url: URL) => Promise<boolean> | boolean

export class ModelServer implements AsyncDisposable {
  readonly origin: string
  readonly #server: Server
  readonly #options: ModelServerOptions
  readonly #throttle: Throttle
  readonly #paths = new Map<string, ServedPath>()
  readonly #connectionOf = new WeakMap<Socket, Connection>()
  readonly #routes: Route[] = []
  readonly #log: ReceivedRequest[] = []
  #hangsUp: 'close' | 'reset' | undefined
  #connections = 0
  #closed: Promise<void> | undefined
  #numbered = 0

  private constructor(server: Server, options: ModelServerOptions) {
    this.#server = server
    this.#options = options
    this.#throttle = new Throttle(options.bytesPerSecond)
    const { host = '127.0.0.1', tls } = options
    this.origin = `${tls ? 'https' : 'http'}://${host}:${(server.address() as AddressInfo).port}`
  }

  static async start(options: ModelServerOptions = {}): Promise<ModelServer> {
    const server: Server = options.tls ? createTlsServer(options.tls) : createServer()
    server.listen(options.port ?? 0, options.host ?? '127.0.0.1')
    await once(server, 'listening')
    const modelServer = new ModelServer(server, options)
    server.on('request', (request, response) => {
      modelServer.#answer(request, response).catch(() => response.destroy())
    })
    server.on('connection', (socket: Socket) => modelServer.#greet(socket))
    if (options.tls) server.on('secureConnection', (socket: Socket) => modelServer.#number(socket))
    return modelServer
  }

  /** Cuts all connections. */
  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    for (const served of this.#paths.values()) served.wake()
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** Serves a file under a path (`/model.gguf`), or another one from now on. Returns its URL. */
  serve(path: string, file: string | ServedFile): string {
    this.#at(path).served = typeof file === 'string' ? { file } : file
    return this.origin + path
  }

  /** Requests for paths without a file go to the routes, in the order of their adding. Faults come before them. */
  route(route: Route): void {
    this.#routes.push(route)
  }

  /** What goes wrong from now on, if anything. Several come one after the other, as their `times` run out. */
  fault(path: string, fault: Fault | readonly Fault[] | undefined): void {
    this.#at(path).setFaults(fault === undefined ? [] : [fault].flat())
  }

  /** Hangs up on whoever connects from now on: before any request, and with TLS before its handshake. `undefined`: no more. */
  hangUp(how: 'close' | 'reset' | undefined): void {
    this.#hangsUp = how
  }

  /** Cuts all connections, and goes on serving. */
  cut(): void {
    this.#server.closeAllConnections()
  }

  /** How many have connected. */
  get connections(): number {
    return this.#connections
  }

  /** Body bytes that the kernel took, over all requests for this path. */
  bytesServed(path: string): number {
    return this.#at(path).bytesServed
  }

  /** All requests, in the order of their coming. */
  get log(): readonly ReceivedRequest[] {
    return this.#log
  }

  /** `method`: those by it only. */
  requests(path: string, method?: string): readonly ReceivedRequest[] {
    const { requests } = this.#at(path)
    return method === undefined ? requests : requests.filter((request) => request.method === method)
  }

  /** Resolves once that many body bytes have gone out for this path. */
  async reached(path: string, bytes: number): Promise<void> {
    await this.#at(path).until((served) => served.bytesServed >= bytes)
  }

  /** Resolves once that many requests have come for this path. */
  async requested(path: string, count = 1): Promise<void> {
    await this.#at(path).until((served) => served.requests.length >= count)
  }

  /** So many answers for this path are under way. */
  atOnce(path: string): number {
    return this.#at(path).active
  }

  /** So many answers for this path were under way at the same time. */
  mostAtOnce(path: string): number {
    return this.#at(path).mostActive
  }

  /** Resolves once no answer for this path is under way: its count stands still. */
  async idle(path: string): Promise<void> {
    await this.#at(path).until((served) => served.active === 0)
  }

  /** Holds back all bytes of a path, or those after an offset of the file, until `resume`. */
  pause(path: string, atByte = 0): void {
    this.#at(path).pausedAt = atByte
  }

  resume(path: string): void {
    const at = this.#at(path)
    at.pausedAt = undefined
    at.wake()
  }

  #at(path: string): ServedPath {
    const at = this.#paths.get(path) ?? new ServedPath()
    this.#paths.set(path, at)
    return at
  }

  #greet(socket: Socket): void {
    this.#connections++
    if (this.#hangsUp === 'close') socket.destroy()
    else if (this.#hangsUp === 'reset') socket.resetAndDestroy()
    else if (!this.#options.tls) this.#number(socket)
  }

  /** A request has the socket of its TLS connection, not the one below it. */
  #number(socket: Socket): Connection {
    const { connection, bytesPerSecondPerConnection: bytesPerSecond } = this.#options
    const ordinal = ++this.#numbered
    const usual = bytesPerSecond === undefined ? {} : { bytesPerSecond }
    const numbered = new Connection(socket, ordinal, connection?.(ordinal) ?? usual)
    this.#connectionOf.set(socket, numbered)
    return numbered
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.origin)
    const connection = this.#connectionOf.get(request.socket) ?? this.#number(request.socket)
    const at = this.#at(url.pathname)
    const received = {
      method: request.method ?? 'GET',
      path: request.url ?? '/',
      headers: request.headers,
      connection: connection.ordinal,
    }
    this.#log.push(received)
    at.requests.push(received)
    at.active++
    at.mostActive = Math.max(at.mostActive, at.active)
    at.wake()
    try {
      const fault = at.takeFault(received)
      await this.#respond({ url, at, fault, request, response, connection, throttle: this.#throttle })
    } finally {
      at.active--
      at.wake()
    }
  }

  async #respond(exchange: Exchange): Promise<void> {
    const { at, request, response, url } = exchange
    for (const [name, value] of Object.entries(at.served?.headers ?? {})) response.setHeader(name, value)
    if (await answeredBare(exchange)) return
    if (at.served) return sendFile(exchange, at.served)
    for (const route of this.#routes) if (await route(request, response, url)) return
    response.writeHead(404).end()
  }
}
