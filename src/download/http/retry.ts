// Which failures may be gone a moment later, and how long that moment is: the one place that decides it for every request.
import { setTimeout as sleep } from 'node:timers/promises'
import { codeOf } from '../../mutex/caught.ts'
import { ModelDownloadError } from '../errors.ts'

const maxRetryAfterMs = 60_000
export const defaultRetryDelaysMs = [1_000, 2_000, 4_000]
/** A try that brought less than this got nowhere. */
export const worthwhileBytes = 64 * 1024

/** Whether the same request may well succeed a moment later. */
export function isTransient(error: unknown): error is ModelDownloadError {
  if (!(error instanceof ModelDownloadError)) return false
  if (error.code === 'ERR_MODEL_NETWORK') return !isCertificateFault(error.cause)
  if (error.status === undefined || error.code !== 'ERR_MODEL_HTTP_STATUS') return false
  // A server that wants to be left alone for longer is not to be pestered, and its caller not to be kept waiting.
  if ((error.retryAfterMs ?? 0) > maxRetryAfterMs) return false
  return error.status === 408 || error.status === 429 || error.status >= 500
}

/** A certificate that is not accepted now will not be in a moment. https://nodejs.org/api/tls.html#x509-certificate-error-codes */
export function isCertificateFault(error: unknown): boolean {
  return /^(CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|HOSTNAME_MISMATCH|ERR_TLS_CERT_)/.test(
    codeOf(error) ?? '',
  )
}

/** Counts the tries in a row that got nowhere. However often a line is cut: one that brings something each time gets there. */
export class Retries {
  readonly #delaysMs: readonly number[]
  #inVain = 0

  constructor(delaysMs: readonly number[]) {
    this.#delaysMs = delaysMs
  }

  /** How long to wait before the next try; `undefined` when this was the last. */
  next(error: unknown, broughtBytes: number): number | undefined {
    if (!isTransient(error)) return undefined
    if (broughtBytes >= worthwhileBytes) this.#inVain = 0
    const delayMs = this.#delaysMs[this.#inVain++]
    if (delayMs === undefined) return undefined
    // Not all that were cut off at once are back at once.
    return error.retryAfterMs ?? delayMs * (0.75 + Math.random() / 2)
  }
}

/** Asks until it gets an answer, or the tries are used up. */
export async function patiently<T>(
  ask: () => Promise<T>,
  delaysMs: readonly number[],
  signal: AbortSignal | undefined,
): Promise<T> {
  const retries = new Retries(delaysMs)
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      signal?.throwIfAborted()
      const delayMs = retries.next(error, 0)
      if (delayMs === undefined) throw error
      await sleep(delayMs, undefined, signal && { signal })
    }
  }
}
