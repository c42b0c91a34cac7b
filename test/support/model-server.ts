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
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

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

/** What goes wrong with a path. `times` limits it to the next so many requests; default: until it is taken back. */
export type Fault = { readonly times?: number } & (
  | { readonly kind: 'status'; readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  /** A login page with status 200. */
  | { readonly kind: 'html' }
  /** Promises everything, but cuts the connection when this offset of the file is reached. */
  | { readonly kind: 'cut'; readonly atByte: number }
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
  /** No Content-Length: chunked, or until the connection closes. */
  | { readonly kind: 'no-length'; readonly chunked: boolean }
  | { readonly kind: 'redirect'; readonly to: string; readonly status?: number }
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
}

const maxChunkBytes = 64 * 1024

export class ModelServer {
  readonly origin: string
  readonly #server: Server
  readonly #options: ModelServerOptions
  readonly #throttle: Throttle
  readonly #paths = new Map<string, ServedPath>()

  private constructor(server: Server, options: ModelServerOptions) {
    this.#server = server
    this.#options = options
    this.#throttle = new Throttle(options.bytesPerSecond)
    this.origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  static async start(options: ModelServerOptions = {}): Promise<ModelServer> {
    const server = createServer()
    server.listen(options.port ?? 0, '127.0.0.1')
    await once(server, 'listening')
    const modelServer = new ModelServer(server, options)
    server.on('request', (request, response) => {
      modelServer.#answer(request, response).catch(() => response.destroy())
    })
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

  fault(path: string, fault: Fault | undefined): void {
    const at = this.#at(path)
    at.fault = fault
    at.faultsLeft = fault?.times ?? Number.POSITIVE_INFINITY
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

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? '/', this.origin).pathname
    const at = this.#at(path)
    at.requests.push({ method: request.method ?? 'GET', path: request.url ?? '/', headers: request.headers })
    at.active++
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
    let start = 0
    let end = size
    const asked = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
    const ifRange = request.headers['if-range']
    if (
      asked &&
      fault?.kind !== 'ignore-range' &&
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
      response.writeHead(206, {
        ...(fault?.kind !== 'untold-range' && { 'content-range': `bytes ${start}-${end - 1}/${size}` }),
        'content-length': end - start,
      })
    } else if (fault?.kind === 'no-length') {
      if (!fault.chunked) response.useChunkedEncodingByDefault = false
      response.writeHead(200, fault.chunked ? { 'transfer-encoding': 'chunked' } : { connection: 'close' })
    } else {
      const length = fault?.kind === 'promise' ? fault.bytes : size
      response.writeHead(200, { 'content-length': length, 'accept-ranges': 'bytes' })
    }
    if (request.method === 'HEAD') {
      response.end()
      return
    }
    response.flushHeaders()
    await this.#sendBody(at, fault, { start, end }, served.file, response)
  }

  async #sendBody(
    at: ServedPath,
    fault: Fault | undefined,
    { start, end }: { start: number; end: number },
    file: string,
    response: ServerResponse,
  ): Promise<void> {
    const perConnection = new Throttle(this.#options.bytesPerSecondPerConnection)
    const chunkBytes = Math.min(maxChunkBytes, this.#throttle.smoothChunk(), perConnection.smoothChunk())
    const limit = faultOffset(fault, start)
    let offset = start
    response.once('close', () => at.wake())
    const stream = createReadStream(file, { start, end: Math.max(start, end - 1), highWaterMark: maxChunkBytes })
    try {
      for await (const block of stream as AsyncIterable<Buffer>) {
        for (let sent = 0; sent < block.length; ) {
          // A pause or a fault may lie inside of a block: up to there it goes out.
          const stop = Math.min(limit, Math.max(at.pausedAt ?? Number.POSITIVE_INFINITY, offset))
          const chunk = block.subarray(sent, sent + Math.min(chunkBytes, stop - offset))
          if (chunk.length > 0) {
            await Promise.all([this.#throttle.take(chunk.length), perConnection.take(chunk.length)])
            if (!(await written(response, chunk))) return
            sent += chunk.length
            offset += chunk.length
            at.bytesServed += chunk.length
            at.wake()
          } else if (offset >= limit) {
            if (fault?.kind === 'stall') await once(response, 'close')
            response.destroy()
            return
          } else {
            await at.until((served) => served.pausedAt === undefined || served.pausedAt > offset || response.destroyed)
            if (response.destroyed || response.socket?.destroyed) return
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
  return fault?.kind === 'cut-each' ? start + fault.bytes : Number.POSITIVE_INFINITY
}

class ServedPath {
  served: ServedFile | undefined
  fault: Fault | undefined
  faultsLeft = 0
  pausedAt: number | undefined
  bytesServed = 0
  active = 0
  readonly requests: ReceivedRequest[] = []
  readonly #waiting = new Set<() => void>()

  takeFault(): Fault | undefined {
    return this.faultsLeft-- > 0 ? this.fault : undefined
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

/** Whether the kernel took the bytes. */
async function written(response: ServerResponse, chunk: Buffer): Promise<boolean> {
  if (response.destroyed || response.socket?.destroyed) return false
  return new Promise((resolve) => {
    const onClose = () => resolve(false)
    response.once('close', onClose)
    response.write(chunk, (error) => {
      response.off('close', onClose)
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
