// HTTP: one GET (or HEAD), its redirects, and what the answer promises. Retries and resumption are decided above, since
// they span processes; connections, time limits and framing are undici's.
//
// Redirects are followed here and not by undici's interceptor, for two reasons: it hands a caller's own headers
// (`x-api-key`) on to other origins, and it hides the answer of the first hop, where the hub tells the file's SHA-256.
import type { Dispatcher } from 'undici'
import { displayUrl, ModelDownloadError } from '../errors.ts'
import type { ResolvedSource } from '../source/parse.ts'
import { type Answer, exchange } from './exchange.ts'

/** What tells one version of a remote file from another. */
export interface RemoteIdentity {
  readonly sourceKey: string
  /** Size of the whole file. */
  readonly bytes?: number
  /** A strong ETag; a weak one promises nothing about single bytes (RFC 9110, 8.8.1) and is not kept. */
  readonly etag?: string
  /** From the caller, or from the hub's `X-Linked-Etag`. */
  readonly sha256?: string
  readonly lastModified?: string
}

export interface RemoteFile {
  readonly identity: RemoteIdentity
  /** Where in the file the body begins: 0, or the offset that was asked for. */
  readonly offset: number
  /** Where it ends: behind its last byte, where that is known. */
  readonly end: number | undefined
  /** Whether parts of it can be asked for, by the server's word. */
  readonly hasRanges: boolean
  readonly contentType: string | undefined
  /** Each time all that has come in. */
  readonly body: AsyncIterable<readonly Buffer[]>
  /** Drops the connection, if the body is not wanted. */
  discard(): void
}

/** A part of the file, of the version that has this ETag. */
export interface RangeWanted {
  readonly start: number
  /** Default: the end of the file. */
  readonly end?: number | undefined
  readonly etag: string | undefined
}

const maxRedirects = 10
const maxRetryAfterMs = 60_000

/** A source's file as the server shows it. */
export class Remote {
  readonly #source: ResolvedSource
  readonly #dispatcher: Dispatcher
  readonly #stallMs: number
  readonly #signal: AbortSignal | undefined

  constructor(
    source: ResolvedSource,
    options: { dispatcher: Dispatcher; stallMs: number; signal: AbortSignal | undefined },
  ) {
    this.#source = source
    this.#dispatcher = options.dispatcher
    this.#stallMs = options.stallMs
    this.#signal = options.signal
  }

  /** Asks for the file, or a part of it. The answer may still be the whole file: see `offset`. `signal` ends this request. */
  async get(wanted?: RangeWanted, signal = this.#signal): Promise<RemoteFile> {
    return this.#open('GET', wanted, signal)
  }

  /** Asks what the file is, without its bytes. */
  async head(): Promise<RemoteIdentity> {
    const remote = await this.#open('HEAD', undefined, this.#signal)
    remote.discard()
    return remote.identity
  }

  #networkError(error: unknown, url: string, signal: AbortSignal | undefined): unknown {
    if (signal?.aborted) return signal.reason
    const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
    const stalled = code === 'UND_ERR_BODY_TIMEOUT' || code === 'UND_ERR_HEADERS_TIMEOUT'
    const what = stalled
      ? `sent nothing for ${this.#stallMs / 1000} s`
      : `failed: ${error instanceof Error ? error.message || code : String(error)}`
    const advice = isCertificateFault(error) ? '; NODE_EXTRA_CA_CERTS names a file of further authorities to trust' : ''
    const message = `The connection to ${url} ${what}${advice}`
    return new ModelDownloadError('ERR_MODEL_NETWORK', message, { url, cause: error })
  }

  async #open(
    method: 'GET' | 'HEAD',
    wanted: RangeWanted | undefined,
    signal: AbortSignal | undefined,
  ): Promise<RemoteFile> {
    const origin = new URL(this.#source.url).origin
    const polite = { accept: '*/*', 'user-agent': 'os-mutex' }
    const own = {
      'accept-encoding': 'identity',
      ...(wanted && { range: `bytes=${wanted.start}-${wanted.end === undefined ? '' : wanted.end - 1}` }),
      ...(wanted?.etag !== undefined && { 'if-range': wanted.etag }),
    }
    let url = new URL(this.#source.url)
    // Once a redirect has left the origin nothing secret is sent any more, not even back to it: the URL is foreign.
    let trusted = true
    let linkedSha256: string | undefined
    for (let hop = 0; hop <= maxRedirects; hop++) {
      const answer = await this.#send(method, url, { ...polite, ...(trusted && this.#source.headers), ...own }, signal)
      if (trusted) linkedSha256 ??= linkedHash(answer.header('x-linked-etag'))
      const location = answer.header('location')
      if (location !== undefined && [301, 302, 303, 307, 308].includes(answer.status)) {
        answer.discard()
        url = redirectTarget(location, url)
        trusted &&= url.origin === origin
        continue
      }
      try {
        return this.#accept(answer, url, wanted, { method, linkedSha256, signal })
      } catch (error) {
        answer.discard()
        throw error
      }
    }
    const message = `${this.#source.label} redirects more than ${maxRedirects} times`
    throw new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', message, { url: this.#source.label })
  }

  async #send(
    method: 'GET' | 'HEAD',
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<Answer> {
    const [dispatcher, stallMs] = [this.#dispatcher, this.#stallMs]
    try {
      return await exchange(url, { method, headers, dispatcher, stallMs, signal })
    } catch (error) {
      throw this.#networkError(error, displayUrl(url), signal)
    }
  }

  async *#chunks({ body }: Answer, url: string, signal: AbortSignal | undefined): AsyncIterable<readonly Buffer[]> {
    try {
      yield* body
    } catch (error) {
      throw this.#networkError(error, url, signal)
    }
  }

  #accept(
    answer: Answer,
    url: URL,
    wanted: RangeWanted | undefined,
    {
      method,
      linkedSha256,
      signal,
    }: { method: 'GET' | 'HEAD'; linkedSha256: string | undefined; signal: AbortSignal | undefined },
  ): RemoteFile {
    const { status } = answer
    if (status === 416 && wanted) throw new UnusableRangeError()
    if (status !== 200 && !(status === 206 && wanted)) throw statusError(status, url, retryAfterOf(answer))
    const bad = (what: string) =>
      new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', `${displayUrl(url)} ${what}`, { url: displayUrl(url), status })

    const encoding = answer.header('content-encoding')?.toLowerCase() ?? 'identity'
    if (encoding !== 'identity') {
      throw bad(`answered with a ${encoding} encoded body, though the plain bytes of the file were asked for`)
    }
    const length = answer.header('content-length')
    const contentLength = length !== undefined && /^\d+$/.test(length) ? Number(length) : undefined
    const range = status === 206 ? parseContentRange(answer.header('content-range')) : undefined
    if (status === 206 && range?.start !== wanted?.start) throw new UnusableRangeError()
    const bytes = range ? range.total : contentLength
    const sha256 = this.#source.sha256 ?? linkedSha256
    // A body that only ends with its connection cannot be told from one that was cut.
    if (
      method === 'GET' &&
      bytes === undefined &&
      !answer.header('transfer-encoding')?.toLowerCase().includes('chunked')
    ) {
      throw bad('does not tell how long the file is')
    }
    if (this.#source.sha256 !== undefined && linkedSha256 !== undefined && this.#source.sha256 !== linkedSha256) {
      const message = `${this.#source.label} has the SHA-256 ${linkedSha256} by its hub's word, not ${this.#source.sha256}`
      throw new ModelDownloadError('ERR_MODEL_HASH_MISMATCH', message, { url: this.#source.label })
    }
    const etag = answer.header('etag')
    const lastModified = answer.header('last-modified')
    return {
      identity: {
        sourceKey: this.#source.key,
        ...(bytes !== undefined && { bytes }),
        ...(etag?.startsWith('"') && { etag }),
        ...(sha256 !== undefined && { sha256 }),
        ...(lastModified !== undefined && { lastModified }),
      },
      offset: range?.start ?? 0,
      end: range ? range.end : bytes,
      hasRanges: range !== undefined || answer.header('accept-ranges')?.toLowerCase() === 'bytes',
      contentType: answer.header('content-type'),
      body: this.#chunks(answer, displayUrl(url), signal),
      discard: () => answer.discard(),
    }
  }
}

/** The hub tells an LFS file's SHA-256 this way; for other files it is a shorter hash, and no use. */
function linkedHash(etag: string | undefined): string | undefined {
  return /^"?([0-9a-f]{64})"?$/i.exec(etag ?? '')?.[1]?.toLowerCase()
}

/** The server cannot continue where we asked it to; the whole file may still be had. */
export class UnusableRangeError extends Error {}

function redirectTarget(location: string, base: URL): URL {
  const target = URL.canParse(location, base.href) ? new URL(location, base) : undefined
  if (target?.protocol === 'http:' || target?.protocol === 'https:') return target
  const message = `${displayUrl(base)} redirects to something that is not an http(s) URL`
  throw new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', message, { url: displayUrl(base) })
}

// RFC 9110, 14.4. The range may end before the file does, so one that does not tell the file's size is of no use.
function parseContentRange(text: string | undefined): { start: number; end: number; total: number } | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(text?.trim() ?? '')
  return match ? { start: Number(match[1]), end: Number(match[2]) + 1, total: Number(match[3]) } : undefined
}

function statusError(status: number, url: URL, retryAfterMs: number | undefined): ModelDownloadError {
  const advice =
    status === 401 || status === 403
      ? '; it wants credentials, or others than it got (HF_TOKEN for the hub, `headers` elsewhere)'
      : status === 404 || status === 410
        ? '; check the address'
        : ''
  const wait = retryAfterMs === undefined ? '' : `; it asks to be left alone for ${Math.ceil(retryAfterMs / 1000)} s`
  return new ModelDownloadError('ERR_MODEL_HTTP_STATUS', `${displayUrl(url)} answered ${status}${advice}${wait}`, {
    url: displayUrl(url),
    status,
    retryAfterMs,
  })
}

// Seconds or a date (RFC 9110, 10.2.3). The date is by the server's clock, which its answer tells; ours may be years off.
function retryAfterOf(answer: Answer): number | undefined {
  const text = answer.header('retry-after')
  if (text === undefined) return undefined
  if (/^\d+$/.test(text)) return Number(text) * 1000
  const at = Date.parse(text)
  if (Number.isNaN(at)) return undefined
  const now = Date.parse(answer.header('date') ?? '')
  return Math.max(0, at - (Number.isNaN(now) ? Date.now() : now))
}

/** A certificate that is not accepted now will not be in a moment. https://nodejs.org/api/tls.html#x509-certificate-error-codes */
function isCertificateFault(error: unknown): boolean {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined
  return /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|HOSTNAME_MISMATCH|ERR_TLS_CERT_)/.test(code ?? '')
}

/** Whether the same request may well succeed a moment later. */
export function isTransient(error: unknown): error is ModelDownloadError {
  if (!(error instanceof ModelDownloadError)) return false
  if (error.code === 'ERR_MODEL_NETWORK') return !isCertificateFault(error.cause)
  if (error.status === undefined || error.code !== 'ERR_MODEL_HTTP_STATUS') return false
  // A server that wants to be left alone for longer is not to be pestered, and its caller not to be kept waiting.
  if ((error.retryAfterMs ?? 0) > maxRetryAfterMs) return false
  return error.status === 408 || error.status === 429 || error.status >= 500
}
