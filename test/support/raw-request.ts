// One HTTP request as it is, for tests of servers: no redirect is followed, and nothing is decoded.
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

export interface RawAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** As they came, names and values in turn; bytes as latin1. */
  readonly rawHeaders: readonly string[]
  readonly httpVersion: string
  readonly body: Buffer
  /** The statuses that came before the answer proper. */
  readonly informational: readonly number[]
  /** The connection ended before the body did. */
  readonly isCut: boolean
  /** When the head and each chunk came, in ms after the request. */
  readonly headMs: number
  readonly chunks: readonly { readonly ms: number; readonly bytes: number }[]
  readonly localPort: number
}

export interface RawRequest {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Ends the request once so many bytes of the body or so many informational answers have come. */
  readonly untilBytes?: number
  readonly untilInformational?: number
}

/** Over a connection that nobody else uses. Rejects where there is no answer. */
export function rawRequest(url: string, options: RawRequest = {}): Promise<RawAnswer> {
  const { method = 'GET', headers = {}, untilBytes = Number.POSITIVE_INFINITY } = options
  return new Promise((resolve, reject) => {
    const startedAt = performance.now()
    const ms = () => performance.now() - startedAt
    const informational: number[] = []
    const request = httpRequest(url, { method, headers, agent: false })
    request.on('error', reject)
    request.on('information', ({ statusCode }) => {
      informational.push(statusCode)
      if (informational.length < (options.untilInformational ?? Number.POSITIVE_INFINITY)) return
      request.destroy(new Error(`${informational.length} informational answers`))
    })
    request.on('response', (response) => {
      const headMs = ms()
      const localPort = ((request.socket as Socket).address() as AddressInfo).port
      const pieces: Buffer[] = []
      const chunks: { ms: number; bytes: number }[] = []
      let received = 0
      response.on('data', (piece: Buffer) => {
        pieces.push(piece)
        chunks.push({ ms: ms(), bytes: piece.length })
        received += piece.length
        if (received >= untilBytes) response.destroy()
      })
      // It comes before 'close', and says the same.
      response.on('error', () => {})
      response.on('close', () => {
        const { statusCode: status = 0, headers, rawHeaders, httpVersion, complete } = response
        const told = { status, headers, rawHeaders, httpVersion, informational, headMs, chunks, localPort }
        resolve({ ...told, body: Buffer.concat(pieces), isCut: !complete })
      })
    })
    request.end()
  })
}
