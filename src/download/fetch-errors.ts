// Why the bytes of a file could not be had, in words.
import { ModelDownloadError } from './errors.ts'
import type { RemoteFile } from './http/remote.ts'

export class FetchErrors {
  readonly #url: string

  /** `url`: as it may be shown. */
  constructor(url: string) {
    this.#url = url
  }

  ended(at: number, promised: number | undefined): ModelDownloadError {
    const of = promised === undefined ? '' : ` of ${promised}`
    return this.#error('ERR_MODEL_NETWORK', `${this.#url} ended after ${at}${of} bytes`)
  }

  standsStill(limitMs: number, cause: unknown): ModelDownloadError {
    const message = `${this.#url} brought fewer than 64 KiB in ${limitMs / 1000} s (downloadTimeoutMs); what was received is kept`
    return this.#error('ERR_MODEL_NETWORK', message, cause)
  }

  inconsistent(): ModelDownloadError {
    return this.#error('ERR_MODEL_NETWORK', `${this.#url} answers range requests inconsistently; try again later`)
  }

  endless(limit: number): ModelDownloadError {
    const message = `What ${this.#url} sends goes on after ${limit} bytes, though its tensors need fewer; it was not kept`
    return this.#error('ERR_MODEL_NOT_GGUF', message)
  }

  notGguf(why: string, { contentType }: RemoteFile): ModelDownloadError {
    const type = contentType === undefined ? '' : ` (the server calls it ${contentType})`
    const message = `What ${this.#url} answers is not a GGUF model: ${why}${type}; nothing of it was kept`
    return this.#error('ERR_MODEL_NOT_GGUF', message)
  }

  wrongSize(has: string, wanted: number): ModelDownloadError {
    const message = `${this.#url} has ${has} bytes instead of ${wanted}; it was not kept`
    return this.#error('ERR_MODEL_SIZE_MISMATCH', message)
  }

  #error(code: ModelDownloadError['code'], message: string, cause?: unknown): ModelDownloadError {
    return new ModelDownloadError(code, message, { url: this.#url, cause })
  }
}
