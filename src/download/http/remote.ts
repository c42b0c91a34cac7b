// HTTP: one file of a server's, and what an answer promises of it. Retries and resumption are decided above, since they
// span processes; connections, time limits and framing are undici's.
import { ModelDownloadError } from '../errors.ts'
import type { ResolvedSource } from '../source/parse.ts'
import type { Answer } from './exchange.ts'
import { badResponse, follow, type Hop, type HttpOptions, isRedirect, networkError, send, statusError } from './http.ts'
import type { RemoteIdentity } from './identity.ts'

export interface RemoteFile {
  readonly identity: RemoteIdentity
  /** Where in the file the body begins: 0, or the offset that was asked for. */
  readonly offset: number
  /** Where it ends: behind its last byte, where that is known. */
  readonly end: number | undefined
  /** Whether a body that was cut can be told from one that has ended. */
  readonly hasFraming: boolean
  /** Whether parts of it can be asked for, by the server's word. */
  readonly hasRanges: boolean
  readonly contentType: string | undefined
  /** Each time all that has come in. */
  readonly body: AsyncIterable<readonly Buffer[]>
  /** Of what `body` handed out: nobody reads it any more. To be called or not. */
  giveBack(chunks: readonly Buffer[]): void
  /** Drops the connection, if the body is not wanted. */
  discard(): void
}

export interface Ask {
  /** A part of the file, to its end unless told. */
  readonly range?: { readonly start: number; readonly end?: number | undefined } | undefined
  /** Further headers of the request, which say on what condition the body is wanted. */
  readonly conditions?: Readonly<Record<string, string>> | undefined
  /** The file that is here: when the hub tells on the way that it is this one, nothing more is asked. */
  readonly known?: RemoteIdentity | undefined
  /** Ends this request. Default: the signal of all. */
  readonly signal?: AbortSignal | undefined
}

/** `unchanged`: the server has the file that is here (304). `changed`: not the one that was wanted a part of (412). */
export type Reply =
  | { readonly kind: 'file'; readonly file: RemoteFile }
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'changed' }

/** What the hub told on the way about the file behind its redirect. */
interface Linked {
  readonly sha256?: string
  readonly bytes?: number
}

/** Where the redirects led. */
interface Found {
  readonly hop: Hop
  readonly linked: Linked
}

/** A source's file as the server shows it. */
export class Remote {
  readonly #source: ResolvedSource
  readonly #options: HttpOptions
  /** The next requests go there at once, as long as it answers. */
  #found: Found | undefined
  /** Credentials that nobody gave for this source, and that the server did not take. */
  #isBare = false

  constructor(source: ResolvedSource, options: HttpOptions) {
    this.#source = source
    this.#options = options
  }

  /** Asks for the file, or a part of it. The answer may still be the whole file: see `offset`. */
  async get(ask: Ask = {}): Promise<Reply> {
    const found = this.#found
    if (found !== undefined) {
      const answer = await this.#send(found.hop, ask).catch((error: unknown) => {
        this.#found = undefined
        throw error
      })
      if (!isRedirect(answer) && ![401, 403, 404, 410].includes(answer.status)) return this.#reply(answer, found, ask)
      // A signed link has ended, or leads elsewhere by now.
      answer.discard()
      this.#found = undefined
    }
    try {
      return await this.#follow(ask)
    } catch (error) {
      const isRefused = error instanceof ModelDownloadError && (error.status === 401 || error.status === 403)
      if (!isRefused || this.#isBare || this.#source.credential?.isFound !== true) throw error
      this.#isBare = true
      // What the server said about the credentials is what helps.
      return this.#follow(ask).catch((second: unknown) => {
        this.#isBare = false
        throw second instanceof ModelDownloadError && second.code === 'ERR_MODEL_HTTP_STATUS' ? error : second
      })
    }
  }

  async #follow(ask: Ask): Promise<Reply> {
    let linked: Linked = {}
    let isRedirected = false
    const { answer, hop } = await follow(
      new URL(this.#source.url),
      (hop) => this.#send(hop, ask),
      (redirect) => {
        isRedirected = true
        if (linked.sha256 === undefined) linked = linkedOf(redirect)
        return ask.known?.sha256 !== undefined && ask.known.sha256 === linked.sha256
      },
    )
    if (isRedirect(answer)) return { kind: 'unchanged' }
    if (linked.sha256 === undefined) linked = linkedOf(answer)
    const found = { hop, linked }
    const reply = this.#reply(answer, found, ask)
    if (isRedirected) this.#found = found
    return reply
  }

  #send({ url, isTrusted }: Hop, { range, conditions, signal = this.#options.signal }: Ask): Promise<Answer> {
    return send({ ...this.#options, signal }, url, {
      accept: '*/*',
      'user-agent': 'os-mutex',
      ...(isTrusted && this.#secrets()),
      'accept-encoding': 'identity',
      ...(range && { range: `bytes=${range.start}-${range.end === undefined ? '' : range.end - 1}` }),
      ...conditions,
    })
  }

  #secrets(): Readonly<Record<string, string>> {
    const { authorization: _, ...bare } = this.#source.headers
    return this.#isBare ? bare : this.#source.headers
  }

  #reply(answer: Answer, found: Found, ask: Ask): Reply {
    try {
      const isConditional = Object.keys(ask.conditions ?? {}).length > 0
      if (answer.status === 304 && isConditional) return { kind: 'unchanged' }
      if (answer.status === 412 && isConditional) return { kind: 'changed' }
      return { kind: 'file', file: this.#accept(answer, found, ask) }
    } catch (error) {
      answer.discard()
      throw error
    }
  }

  #accept(answer: Answer, { hop, linked }: Found, { range: wanted, signal = this.#options.signal }: Ask): RemoteFile {
    const { status } = answer
    const { url } = hop
    if (status === 416 && wanted) throw new UnusableRangeError()
    if (status !== 200 && !(status === 206 && wanted)) {
      throw statusError(answer, url, {
        credential: this.#isBare ? undefined : this.#source.credential,
        asked: this.#source,
        secrets: this.#options.secrets,
      })
    }
    const bad = (what: string) => badResponse(url, what, status)

    const coding = codingOf(answer.header('content-encoding'))
    if (coding !== undefined) {
      throw bad(`answered with a ${coding} encoded body, though the plain bytes of the file were asked for`)
    }
    const length = answer.header('content-length')
    const contentLength = length !== undefined && /^\d+$/.test(length) ? Number(length) : undefined
    const range = status === 206 ? parseContentRange(answer.header('content-range')) : undefined
    if (status === 206 && range?.start !== wanted?.start) throw new UnusableRangeError()
    const bytes = range ? range.total : (contentLength ?? linked.bytes)
    const sha256 = this.#source.sha256 ?? linked.sha256
    // A body that only ends with its connection can't be told from one that was cut, unless size or hash are known.
    const isChunked = answer.header('transfer-encoding')?.toLowerCase().includes('chunked') === true
    if (bytes === undefined && !isChunked && sha256 === undefined && this.#source.bytes === undefined) {
      throw bad('does not tell how long the file is. Give its `sha256` or `bytes`, by which a cut one can be told')
    }
    if (this.#source.sha256 !== undefined && linked.sha256 !== undefined && this.#source.sha256 !== linked.sha256) {
      const message = `${this.#source.label} has the SHA-256 ${linked.sha256} by its hub's word, not ${this.#source.sha256}`
      throw new ModelDownloadError('ERR_MODEL_HASH_MISMATCH', message, { url: this.#source.label })
    }
    return {
      identity: identityOf(answer, bytes, sha256),
      offset: range?.start ?? 0,
      end: range ? range.end : bytes,
      hasFraming: contentLength !== undefined || isChunked,
      hasRanges: range !== undefined || answer.header('accept-ranges')?.toLowerCase() === 'bytes',
      contentType: answer.header('content-type'),
      body: this.#chunks(answer, url, signal),
      giveBack: (chunks) => answer.giveBack(chunks),
      discard: () => answer.discard(),
    }
  }

  async *#chunks({ body }: Answer, url: URL, signal: AbortSignal | undefined): AsyncIterable<readonly Buffer[]> {
    let isEmpty = true
    try {
      for await (const chunks of body) {
        isEmpty = false
        yield chunks
      }
    } catch (error) {
      // From there nothing comes: the next request asks the source again. Not after each cut: hubs count those requests.
      if (isEmpty) this.#found = undefined
      throw networkError(error, url, this.#options.limits, signal)
    }
  }
}

/** The server cannot continue where we asked it to; the whole file may still be had. */
export class UnusableRangeError extends Error {}

const settledMs = 60_000
const mostValidatorLength = 500

function identityOf(answer: Answer, bytes: number | undefined, sha256: string | undefined): RemoteIdentity {
  const etag = validatorOf(answer.header('etag'))
  const lastModified = validatorOf(answer.header('last-modified'))
  const age = Date.parse(answer.header('date') ?? '') - Date.parse(lastModified ?? '')
  return {
    ...(bytes !== undefined && { bytes }),
    ...(etag !== undefined && { etag }),
    ...(lastModified !== undefined && { lastModified }),
    ...(age >= settledMs && { isSettled: true }),
    ...(sha256 !== undefined && { sha256 }),
  }
}

/** One that is absurdly long is none: it is kept on disk and sent with each request. */
function validatorOf(header: string | undefined): string | undefined {
  return header !== undefined && header !== '' && header.length <= mostValidatorLength ? header : undefined
}

/** The hub tells an LFS file's SHA-256 this way; for other files it is a shorter hash, and no use. */
function linkedOf(answer: Answer): { sha256?: string; bytes?: number } {
  const sha256 = /^"?([0-9a-f]{64})"?$/i.exec(answer.header('x-linked-etag') ?? '')?.[1]?.toLowerCase()
  const size = answer.header('x-linked-size') ?? ''
  return { ...(sha256 !== undefined && { sha256 }), ...(/^\d+$/.test(size) && { bytes: Number(size) }) }
}

const codings = new Set(['gzip', 'x-gzip', 'deflate', 'br', 'zstd', 'compress', 'x-compress'])

/**
 * What makes the body another than the file. Stores replay whatever their uploaders once said (`aws-chunked`, an empty
 * value, `utf-8`) over plain bytes.
 */
function codingOf(header: string | undefined): string | undefined {
  return header
    ?.toLowerCase()
    .split(',')
    .map((coding) => coding.trim())
    .find((coding) => codings.has(coding))
}

// RFC 9110, 14.4. The range may end before the file does, so one that does not tell the file's size is of no use.
function parseContentRange(text: string | undefined): { start: number; end: number; total: number } | undefined {
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(text?.trim() ?? '')
  return match ? { start: Number(match[1]), end: Number(match[2]) + 1, total: Number(match[3]) } : undefined
}
