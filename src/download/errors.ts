// Every way in which a model file could not be fetched; `code` is the stable part, the message is for people.
import { codeOf } from '../mutex/caught.ts'
import { errnoName } from '../mutex/errno.ts'

export type ModelDownloadErrorCode =
  | 'ERR_MODEL_INVALID_SOURCE'
  | 'ERR_MODEL_NOT_FOUND'
  | 'ERR_MODEL_HTTP_STATUS'
  | 'ERR_MODEL_BAD_RESPONSE'
  | 'ERR_MODEL_NETWORK'
  | 'ERR_MODEL_NOT_GGUF'
  | 'ERR_MODEL_HASH_MISMATCH'
  | 'ERR_MODEL_SIZE_MISMATCH'
  | 'ERR_MODEL_DISK_FULL'
  | 'ERR_MODEL_FILE_SYSTEM'
  | 'ERR_MODEL_FILE_IN_USE'
  | 'ERR_MODEL_NAME_TAKEN'

export interface ModelDownloadErrorDetails {
  readonly url?: string | undefined
  readonly path?: string | undefined
  readonly status?: number | undefined
  readonly retryAfterMs?: number | undefined
  readonly cause?: unknown
}

/**
 * A model file could not be fetched, checked or published. `code` says why:
 *
 * - `ERR_MODEL_INVALID_SOURCE`: the source, or the file name it leads to, cannot be used.
 * - `ERR_MODEL_NOT_FOUND`: it is not here, and nobody may be asked for it (a path, `fetch: 'never'`, `HF_HUB_OFFLINE`).
 * - `ERR_MODEL_HTTP_STATUS`: the server refused; see `status`.
 * - `ERR_MODEL_BAD_RESPONSE`: the server's answer cannot be trusted to be the file (compressed, no length, …).
 * - `ERR_MODEL_NETWORK`: no connection, a cut or stalled transfer, after all tries.
 * - `ERR_MODEL_NOT_GGUF`: what came is not a GGUF file.
 * - `ERR_MODEL_HASH_MISMATCH`, `ERR_MODEL_SIZE_MISMATCH`: not the file that was asked for.
 * - `ERR_MODEL_DISK_FULL`, `ERR_MODEL_FILE_SYSTEM`: the disk refused; see `path` and `cause`.
 * - `ERR_MODEL_FILE_IN_USE`: on Windows, another version is at `path` and some process has it open or loaded.
 *   What was received stays, and the next call publishes it without receiving it again.
 * - `ERR_MODEL_NAME_TAKEN`: another source's file, or one of your own, has the `fileName` that was given; see `path`.
 */
export class ModelDownloadError extends Error {
  override readonly name = 'ModelDownloadError'
  readonly code: ModelDownloadErrorCode
  /** Where it came from, without credentials and query. */
  readonly url: string | undefined
  readonly path: string | undefined
  /** The HTTP status, where a server answered with one that ends the download. */
  readonly status: number | undefined
  /** How long the server asked to be left alone, in milliseconds. */
  readonly retryAfterMs: number | undefined

  constructor(code: ModelDownloadErrorCode, message: string, details: ModelDownloadErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.url = details.url
    this.path = details.path
    this.status = details.status
    this.retryAfterMs = details.retryAfterMs
  }
}

/** The part of a URL that may be shown and stored: credentials live in the user info, the query and the fragment. */
export function displayUrl(url: URL): string {
  return `${url.origin}${url.pathname}`
}

/** The system's own code of a failed call, such as `ENOENT`. */
export function errnoOf(error: unknown): string | undefined {
  const code = codeOf(error)
  if (code === undefined) return undefined
  const { errno } = error as NodeJS.ErrnoException
  // libuv's word for what has no name there: `UNKNOWN`, or `Unknown system error -122`.
  return /^unknown/i.test(code) && errno !== undefined ? errnoName(-errno) : code
}

export function invalidSource(message: string): ModelDownloadError {
  return new ModelDownloadError('ERR_MODEL_INVALID_SOURCE', message)
}

/**
 * For messages about text that may not even be a URL: whatever could be a credential is cut off. A password may have
 * any sign in it, unescaped too, so all that stands before an `@` goes, and what follows one in a query.
 */
export function redacted(text: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(text)?.[0] ?? ''
  const rest = text.slice(scheme.length)
  const cut = rest.search(/[?#]/)
  const plain = cut === -1 ? rest : rest.slice(0, cut)
  const hasUser = scheme !== '' || rest.includes(':')
  const isUnclear = hasUser && cut !== -1 && rest.includes('@', cut)
  const shown = scheme + (isUnclear ? '…' : hasUser ? plain.slice(plain.lastIndexOf('@') + 1) : plain)
  return JSON.stringify(shown.length > 200 ? `${shown.slice(0, 200)}…` : shown)
}

/** The error for a file that nobody may be asked for. */
export function notHere(destination: string, why = "`fetch: 'never'` asks no server for it"): ModelDownloadError {
  const message = `There is no verified ${destination}, and ${why}`
  return new ModelDownloadError('ERR_MODEL_NOT_FOUND', message, { path: destination })
}
