// Requests with their redirects, and their failures in words. Whatever is asked of a server goes by here.
//
// Redirects are followed here and not by undici's interceptor, for two reasons: it hands a caller's own headers
// (`x-api-key`) on to other origins, and it hides the answer of the first hop, where the hub tells the file's SHA-256.
import { codeOf, messageOf } from '../../mutex/caught.ts'
import { displayUrl, ModelDownloadError } from '../errors.ts'
import type { Credential } from '../source/credentials.ts'
import { refusalWords, retryAfterOf, secretsOf } from './answer-words.ts'
import type { RequestDispatcher } from './dispatcher.ts'
import { type Answer, exchange, type TimeLimits } from './exchange.ts'
import { isCertificateFault } from './retry.ts'

export interface HttpOptions {
  readonly dispatcher: RequestDispatcher
  readonly limits: TimeLimits
  readonly signal: AbortSignal | undefined
  /** What is sent besides the headers of a request, and must not be repeated: to a proxy. */
  readonly secrets: readonly string[]
}

/** Where a request goes, and whether what is secret may go along. */
export interface Hop {
  readonly url: URL
  /** Once a redirect has left the origin nothing secret is sent any more, not even back to it: the URL is foreign. */
  readonly isTrusted: boolean
}

const redirects = [301, 302, 303, 307, 308]
const maxRedirects = 10

export function isRedirect(answer: Answer): boolean {
  return redirects.includes(answer.status) && answer.header('location') !== undefined
}

/** A GET. Throws `ERR_MODEL_NETWORK`, or the signal's reason. */
export async function send(
  { dispatcher, limits, signal }: HttpOptions,
  url: URL,
  headers: Record<string, string>,
): Promise<Answer> {
  try {
    return await exchange(url, { headers, dispatcher, limits, signal })
  } catch (error) {
    throw networkError(error, url, limits, signal)
  }
}

/**
 * Asks `first`, and where its redirects lead. `ask` sends one request. `onRedirect` looks at each redirect's answer; by `true` it
 * ends the walk there: the answer is the redirect's own then.
 */
export async function follow(
  first: URL,
  ask: (hop: Hop) => Promise<Answer>,
  onRedirect: (answer: Answer) => boolean = () => false,
): Promise<{ readonly answer: Answer; readonly hop: Hop }> {
  let hop: Hop = { url: first, isTrusted: true }
  for (let count = 0; count <= maxRedirects; count++) {
    const answer = await ask(hop)
    if (!isRedirect(answer)) return { answer, hop }
    answer.discard()
    if (onRedirect(answer)) return { answer, hop }
    const url = redirectTarget(answer.header('location') ?? '', hop.url)
    hop = { url, isTrusted: hop.isTrusted && url.origin === first.origin }
  }
  throw badResponse(first, `redirects more than ${maxRedirects} times`)
}

function redirectTarget(location: string, base: URL): URL {
  const target = URL.canParse(location, base.href) ? new URL(location, base) : undefined
  if (target?.protocol === 'http:' || target?.protocol === 'https:') return target
  throw badResponse(base, 'redirects to something that is not an http(s) URL')
}

export function badResponse(url: URL, what: string, status?: number): ModelDownloadError {
  const label = displayUrl(url)
  return new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', `${label} ${what}`, { url: label, status })
}

export function networkError(
  cause: unknown,
  url: URL,
  { headersTimeoutMs, bodyTimeoutMs }: TimeLimits,
  signal: AbortSignal | undefined,
): unknown {
  if (signal?.aborted) return signal.reason
  const label = displayUrl(url)
  const code = codeOf(cause)
  const what =
    code === 'UND_ERR_HEADERS_TIMEOUT'
      ? `brought no answer within ${headersTimeoutMs / 1000} s`
      : code === 'UND_ERR_BODY_TIMEOUT'
        ? `sent nothing for ${bodyTimeoutMs / 1000} s`
        : `failed: ${messageOf(cause) || code}`
  const advice = isCertificateFault(cause) ? '; NODE_EXTRA_CA_CERTS names a file of further authorities to trust' : ''
  const message = `The connection to ${label} ${what}${advice}`
  return new ModelDownloadError('ERR_MODEL_NETWORK', message, { url: label, cause })
}

/** The error for an answer that is no answer. `advice`: what this status means here, where that is known. */
export function statusError(
  answer: Answer,
  url: URL,
  {
    credential,
    asked,
    secrets,
    advice = '',
  }: {
    credential: Credential | undefined
    /** Whose secrets the server may repeat, and these. */
    secrets: readonly string[]
    asked: { readonly url: string; readonly headers: Readonly<Record<string, string>> }
    advice?: string
  },
): ModelDownloadError {
  const { status } = answer
  const header = (name: string) => answer.header(name)
  const token =
    credential === undefined
      ? 'it was asked without credentials (HF_TOKEN for the hub, `headers` elsewhere)'
      : `its credentials are from ${credential.from}`
  const what =
    advice !== ''
      ? advice
      : status === 401 || status === 403
        ? `; ${token}`
        : status === 404 || status === 410
          ? '; check the address'
          : ''
  const words = refusalWords(header, [...secretsOf(asked), ...secretsOf({ url: url.href, headers: {} }), ...secrets])
  const said = words === undefined ? '' : `; it says: ${words}`
  const retryAfterMs = retryAfterOf(header)
  const wait = retryAfterMs === undefined ? '' : `; it asks to be left alone for ${Math.ceil(retryAfterMs / 1000)} s`
  const label = displayUrl(url)
  const message = `${label} answered ${status}${what}${said}${wait}`
  return new ModelDownloadError('ERR_MODEL_HTTP_STATUS', message, { url: label, status, retryAfterMs })
}
