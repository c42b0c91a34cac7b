// A real HTTP server for model files: ranges, strong ETags, If-Range and HEAD as a good server has them, a throttle, an
// exact count of the bytes that went out, and every fault that a downloader must survive. Used by tests and the demo.
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, readFileSync, statSync } from 'node:fs'
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { deflateSync, gzipSync } from 'node:zlib'

export interface ServedFile {
  /** The file on disk. */
  readonly file: string
  /** Default: a strong ETag made from the file's bytes. Give `W/"…"` for a weak one, `null` for none. */
  readonly etag?: string | null
  /** Added to every answer for this path, redirects included: `x-linked-etag` and the like. */
  readonly headers?: Readonly<Record<string, string>>
  /** Close the connection after every answer, and say so. */
  readonly close?: boolean
}

/** The part of a file that an answer carries. `isRange`: it was asked for by a range that is honoured. */
export interface Part {
  readonly start: number
  readonly end: number
  readonly size: number
  readonly isRange: boolean
}

/**
 * What goes wrong with a path. `times` limits it to the next so many requests; default: until it is taken back. Requests
 * before them, `after` many, are answered well.
 */
export type Fault = { readonly times?: number; readonly after?: number } & (
  | { readonly kind: 'status'; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** A login page with status 200. */
  | { readonly kind: 'html' }
  /** Promises everything, but cuts the connection when this offset of the file is reached; `reset`: by RST. */
  | { readonly kind: 'cut'; readonly atByte: number; readonly reset?: boolean }
  /** Cuts every connection after so many bytes of its own. */
  | { readonly kind: 'cut-each'; readonly bytes: number }
  /** Sends nothing more once this offset of the file is reached, and keeps the connection. */
  | { readonly kind: 'stall'; readonly atByte: number }
  /** Never answers. */
  | { readonly kind: 'silent' }
  /** Answers 200 with the whole file to a request for a range. */
  | { readonly kind: 'ignore-range' }
  /** Answers 206 also where If-Range says that the file is another by now. */
  | { readonly kind: 'ignore-if-range' }
  /** Answers 206, with a range that was not asked for. */
  | { readonly kind: 'wrong-range' }
  /** Answers a request for a range with at most so many bytes of it, as a server may. */
  | { readonly kind: 'short-range'; readonly bytes: number }
  /** Answers 206 without telling the range. */
  | { readonly kind: 'untold-range' }
  /** Claims a compressed body. */
  | { readonly kind: 'gzip' }
  /** Promises more bytes than it has. */
  | { readonly kind: 'promise'; readonly bytes: number }
  /** No Content-Length: chunked, or until the connection closes. `cutAtByte`: the connection is cut there. */
  | { readonly kind: 'no-length'; readonly chunked: boolean; readonly cutAtByte?: number }
  | { readonly kind: 'redirect'; readonly to: string; readonly status?: number }
  /** A compressed body that nobody asked for. */
  | { readonly kind: 'compressed'; readonly encoding: 'gzip' | 'deflate' }
  /** The file's answer with other headers (`null`: without one) or another status. */
  | {
      readonly kind: 'headers'
      readonly status?: number
      readonly headers: (part: Part) => Readonly<Record<string, string | null>>
    }
  /** Answers a request for a range with another one, and tells so. */
  | { readonly kind: 'other-range'; readonly of: (part: Part) => { readonly start: number; readonly end: number } }
  /** Tells the range that was asked for, but sends another file's bytes. */
  | { readonly kind: 'other-bytes'; readonly file: string }
  /** Answers a request for a range with a multipart of that one range. */
  | { readonly kind: 'multipart' }
  /** Sends pieces of so many bytes. */
  | { readonly kind: 'pieces'; readonly bytes: number }
  /** Raw text before the answer. */
  | { readonly kind: 'prelude'; readonly text: string }
  /** Raw text in place of the answer's head, for the whole file. Whatever follows, the connection is closed after it. */
  | { readonly kind: 'raw'; readonly head: (part: Part) => string; readonly rest: 'body' | 'cut' | 'stall' }
)

export interface ReceivedRequest {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
}

export interface ModelServerOptions {
  /** Limit of all connections together. */
  readonly bytesPerSecond?: number
  /** Limit of each connection. */
  readonly bytesPerSecondPerConnection?: number
  /** Default: a free one. */
  readonly port?: number
  /** Makes it an HTTPS server. */
  readonly tls?: { readonly key: string; readonly cert: string }
}

const maxChunkBytes = 64 * 1024

export class ModelServer {
  readonly origin: string
  readonly #server: Server
  readonly #options: ModelServerOptions
  readonly #throttle: Throttle
  readonly #paths = new Map<string, ServedPath>()
  #hangsUp: 'close' | 'reset' | undefined
  #connections = 0

  private constructor(server: Server, options: ModelServerOptions) {
    this.#server = server
    this.#options = options
    this.#throttle = new Throttle(options.bytesPerSecond)
    this.origin = `${options.tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  static async start(options: ModelServerOptions = {}): Promise<ModelServer> {
    const server: Server = options.tls ? createTlsServer(options.tls) : createServer()
    server.listen(options.port ?? 0, '127.0.0.1')
    await once(server, 'listening')
    const modelServer = new ModelServer(server, options)
    server.on('request', (request, response) => {
      modelServer.#answer(request, response).catch(() => response.destroy())
    })
    server.on('connection', (socket: Socket) => modelServer.#greet(socket))
    return modelServer
  }

  /** Cuts all connections. */
  async close(): Promise<void> {
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

  /** What goes wrong from now on, if anything. Several come one after the other, as their `times` run out. */
  fault(path: string, fault: Fault | readonly Fault[] | undefined): void {
    this.#at(path).setFaults(fault === undefined ? [] : [fault].flat())
  }

  /** Hangs up on whoever connects from now on: before any request, and with TLS before its handshake. `undefined`: no more. */
  hangUp(how: 'close' | 'reset' | undefined): void {
    this.#hangsUp = how
  }

  /** How many have connected. */
  get connections(): number {
    return this.#connections
  }

  /** Body bytes that the kernel took, over all requests for this path. */
  bytesServed(path: string): number {
    return this.#at(path).bytesServed
  }

  requests(path: string): readonly ReceivedRequest[] {
    return this.#at(path).requests
  }

  /** Resolves once that many body bytes have gone out for this path. */
  async reached(path: string, bytes: number): Promise<void> {
    await this.#at(path).until((served) => served.bytesServed >= bytes)
  }

  /** Resolves once that many requests have come for this path. */
  async requested(path: string, count = 1): Promise<void> {
    await this.#at(path).until((served) => served.requests.length >= count)
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
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', this.origin).pathname
    const at = this.#at(path)
    at.requests.push({ method: request.method ?? 'GET', path: request.url ?? '/', headers: request.headers })
    at.active++
    at.mostActive = Math.max(at.mostActive, at.active)
    at.wake()
    try {
      await this.#answerAt(at, request, response)
    } finally {
      at.active--
      at.wake()
    }
  }

  async #answerAt(at: ServedPath, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = at.takeFault()
    for (const [name, value] of Object.entries(at.served?.headers ?? {})) response.setHeader(name, value)
    switch (fault?.kind) {
      case 'status':
        response.writeHead(fault.status, { 'content-type': 'text/plain', ...fault.headers }).end(`${fault.status}\n`)
        return
      case 'redirect':
        response.writeHead(fault.status ?? 302, { location: fault.to }).end()
        return
      case 'silent':
        await once(response, 'close')
        return
      case 'html': {
        const page = '<!doctype html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>'
        response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page)
        return
      }
      default:
        await this.#sendFile(at, fault, request, response)
    }
  }

  async #sendFile(
    at: ServedPath,
    fault: Fault | undefined,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { served } = at
    if (!served) {
      response.writeHead(404).end()
      return
    }
    if (served.close) response.setHeader('connection', 'close')
    const size = statSync(served.file).size
    const etag = served.etag === undefined ? contentEtag(served.file) : served.etag
    if (etag !== null) response.setHeader('etag', etag)
    response.setHeader('content-type', 'application/octet-stream')
    if (fault?.kind === 'gzip') response.setHeader('content-encoding', 'gzip')
    if (fault?.kind === 'compressed') {
      const compress = fault.encoding === 'gzip' ? gzipSync : deflateSync
      const body = compress(readFileSync(served.file), { level: 1 })
      response.writeHead(200, { 'content-encoding': fault.encoding, 'content-length': body.length }).end(body)
      return
    }
    if (fault?.kind === 'prelude') request.socket.write(fault.text)
    let start = 0
    let end = size
    const asked = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
    const ifRange = request.headers['if-range']
    if (
      asked &&
      fault?.kind !== 'ignore-range' &&
      fault?.kind !== 'raw' &&
      (ifRange === undefined || ifRange === etag || fault?.kind === 'ignore-if-range')
    ) {
      start = Number(asked[1])
      if (start >= size) {
        response.writeHead(416, { 'content-range': `bytes */${size}` }).end()
        return
      }
      if (asked[2]) end = Math.min(size, Number(asked[2]) + 1)
      if (fault?.kind === 'wrong-range') start = Math.floor(start / 2)
      if (fault?.kind === 'short-range') end = Math.min(end, start + fault.bytes)
      if (fault?.kind === 'other-range') ({ start, end } = fault.of({ start, end, size, isRange: true }))
      if (fault?.kind === 'multipart') {
        sendMultipart(response, readFileSync(served.file).subarray(start, end), contentRange(start, end, size))
        return
      }
      this.#writeHead(response, fault, 206, {
        part: { start, end, size, isRange: true },
        headers: {
          ...(fault?.kind !== 'untold-range' && { 'content-range': contentRange(start, end, size) }),
          'content-length': String(end - start),
        },
      })
    } else if (fault?.kind === 'no-length') {
      if (!fault.chunked) response.useChunkedEncodingByDefault = false
      response.writeHead(200, fault.chunked ? { 'transfer-encoding': 'chunked' } : { connection: 'close' })
    } else {
      const length = fault?.kind === 'promise' ? fault.bytes : size
      this.#writeHead(response, fault, 200, {
        part: { start, end, size, isRange: false },
        headers: { 'content-length': String(length), 'accept-ranges': 'bytes' },
      })
    }
    if (request.method === 'HEAD') {
      response.end()
      return
    }
    const file = fault?.kind === 'other-bytes' && start > 0 ? fault.file : served.file
    if (fault?.kind === 'raw') {
      await this.#sendRaw(at, fault, { start, end, size, isRange: false }, file, request.socket)
      return
    }
    response.flushHeaders()
    await this.#sendBody(at, fault, { start, end }, file, response)
  }

  #writeHead(
    response: ServerResponse,
    fault: Fault | undefined,
    status: number,
    { part, headers }: { readonly part: Part; readonly headers: Readonly<Record<string, string>> },
  ): void {
    if (fault?.kind === 'raw') return
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value)
    if (fault?.kind !== 'headers') {
      response.writeHead(status)
      return
    }
    for (const [name, value] of Object.entries(fault.headers(part))) {
      if (value === null) response.removeHeader(name)
      else response.setHeader(name, value)
    }
    response.writeHead(fault.status ?? status)
  }

  /** On the bare connection, since no good server would write what a `raw` fault writes. */
  async #sendRaw(
    at: ServedPath,
    fault: Fault & { readonly kind: 'raw' },
    part: Part,
    file: string,
    socket: Socket,
  ): Promise<void> {
    socket.write(fault.head(part))
    if (fault.rest === 'body') await this.#sendBody(at, fault, part, file, socket)
    else if (fault.rest === 'stall') await once(socket, 'close')
    socket.end()
  }

  async #sendBody(
    at: ServedPath,
    fault: Fault | undefined,
    { start, end }: { start: number; end: number },
    file: string,
    response: ServerResponse | Socket,
  ): Promise<void> {
    const perConnection = new Throttle(this.#options.bytesPerSecondPerConnection)
    const piece = fault?.kind === 'pieces' ? fault.bytes : maxChunkBytes
    const chunkBytes = Math.min(piece, this.#throttle.smoothChunk(), perConnection.smoothChunk())
    const limit = faultOffset(fault, start)
    let offset = start
    response.once('close', () => at.wake())
    const stream = createReadStream(file, { start, end: Math.max(start, end - 1), highWaterMark: maxChunkBytes })
    try {
      for await (const block of stream as AsyncIterable<Buffer>) {
        for (let sent = 0; sent < block.length; ) {
          // A pause or a fault may lie inside of a block: up to there it goes out.
          const stop = Math.min(limit, Math.max(at.pausedAt ?? Number.POSITIVE_INFINITY, offset))
          const chunk = block.subarray(sent, sent + Math.max(0, Math.min(chunkBytes, stop - offset)))
          if (chunk.length > 0) {
            await Promise.all([this.#throttle.take(chunk.length), perConnection.take(chunk.length)])
            if (!(await written(response, chunk))) return
            sent += chunk.length
            offset += chunk.length
            at.bytesServed += chunk.length
            at.wake()
          } else if (offset >= limit) {
            if (fault?.kind === 'stall') await once(response, 'close')
            if (fault?.kind === 'cut' && fault.reset) socketOf(response)?.resetAndDestroy()
            response.destroy()
            return
          } else {
            await at.until((served) => served.pausedAt === undefined || served.pausedAt > offset || response.destroyed)
            if (isGone(response)) return
          }
        }
      }
      response.end()
    } finally {
      stream.destroy()
    }
  }
}

/** The offset of the file at which a body ends before its time. */
function faultOffset(fault: Fault | undefined, start: number): number {
  if (fault?.kind === 'cut' || fault?.kind === 'stall') return fault.atByte
  if (fault?.kind === 'no-length') return fault.cutAtByte ?? Number.POSITIVE_INFINITY
  return fault?.kind === 'cut-each' ? start + fault.bytes : Number.POSITIVE_INFINITY
}

class ServedPath {
  served: ServedFile | undefined
  pausedAt: number | undefined
  bytesServed = 0
  active = 0
  mostActive = 0
  readonly requests: ReceivedRequest[] = []
  readonly #waiting = new Set<() => void>()
  #faults: { readonly fault: Fault; wellLeft: number; timesLeft: number }[] = []

  setFaults(faults: readonly Fault[]): void {
    this.#faults = faults.map((fault) => ({
      fault,
      wellLeft: fault.after ?? 0,
      timesLeft: fault.times ?? Number.POSITIVE_INFINITY,
    }))
  }

  takeFault(): Fault | undefined {
    const next = this.#faults.find(({ timesLeft }) => timesLeft > 0)
    if (next === undefined || next.wellLeft-- > 0) return undefined
    next.timesLeft--
    return next.fault
  }

  wake(): void {
    for (const check of [...this.#waiting]) check()
  }

  async until(condition: (served: ServedPath) => boolean): Promise<void> {
    if (condition(this)) return
    await new Promise<void>((resolve) => {
      const check = () => {
        if (!condition(this)) return
        this.#waiting.delete(check)
        resolve()
      }
      this.#waiting.add(check)
    })
  }
}

/** Lets bytes through at a steady rate, whoever asks. */
class Throttle {
  readonly #bytesPerSecond: number | undefined
  #freeAt = 0

  constructor(bytesPerSecond: number | undefined) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Pieces small enough for about 50 a second. */
  smoothChunk(): number {
    return this.#bytesPerSecond === undefined ? maxChunkBytes : Math.max(1, Math.ceil(this.#bytesPerSecond / 50))
  }

  async take(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === undefined) return
    const now = performance.now()
    this.#freeAt = Math.max(this.#freeAt, now) + (bytes / this.#bytesPerSecond) * 1000
    await sleep(this.#freeAt - now)
  }
}

function contentRange(start: number, end: number, size: number): string {
  return `bytes ${start}-${end - 1}/${size}`
}

function sendMultipart(response: ServerResponse, bytes: Buffer, range: string): void {
  const body = Buffer.concat([
    Buffer.from(`--parts\r\ncontent-type: application/octet-stream\r\ncontent-range: ${range}\r\n\r\n`),
    bytes,
    Buffer.from('\r\n--parts--\r\n'),
  ])
  const headers = { 'content-type': 'multipart/byteranges; boundary=parts', 'content-length': body.length }
  response.writeHead(206, headers).end(body)
}

function socketOf(response: ServerResponse | Socket): Socket | null {
  return 'socket' in response ? response.socket : response
}

function isGone(response: ServerResponse | Socket): boolean {
  return response.destroyed || socketOf(response)?.destroyed === true
}

/** Whether the kernel took the bytes. */
async function written(response: ServerResponse | Socket, chunk: Buffer): Promise<boolean> {
  if (isGone(response)) return false
  const writable: Writable = response
  return new Promise((resolve) => {
    const onClose = () => resolve(false)
    writable.once('close', onClose)
    writable.write(chunk, (error) => {
      writable.off('close', onClose)
      resolve(!error)
    })
  })
}

const etags = new Map<string, string>()

function contentEtag(file: string): string {
  const { size, mtimeMs } = statSync(file)
  const key = `${file} ${size} ${mtimeMs}`
  let etag = etags.get(key)
  if (etag === undefined) {
    etag = `"${createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 32)}"`
    etags.set(key, etag)
  }
  return etag
}
