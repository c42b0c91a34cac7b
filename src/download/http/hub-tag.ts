// Asks the hub which file of a repository a tag leads to.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { displayUrl, ModelDownloadError } from '../errors.ts'
import type { Credential } from '../source/credentials.ts'
import type { HubTag } from '../source/hub.ts'
import { fileInAnswer, type HubPath } from '../source/hub-tag.ts'
import type { TagRequest } from '../source/resolve.ts'
import { refusalWords, retryAfterOf, secretsOf } from './answer-words.ts'
import { type Answer, exchange } from './exchange.ts'
import { isTransient } from './remote.ts'

export interface AskOptions {
  readonly dispatcher: Dispatcher
  readonly signal: AbortSignal | undefined
  readonly stallMs: number
  /** Waits before the tries that follow a failure. Default: 1 s, 2 s, 4 s. */
  readonly retryDelaysMs?: readonly number[]
}

const mostAnswerBytes = 1024 * 1024
const mostRedirects = 5

/**
 * The path of the file within its repository. A token that was found, and that the hub does not take, is left out then:
 * the repository may be public.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_HTTP_STATUS`, `ERR_MODEL_BAD_RESPONSE`, `ERR_MODEL_NETWORK`; the signal's
 *   reason.
 */
export async function askForTag(request: TagRequest, options: AskOptions): Promise<HubPath> {
  const { credential } = request
  try {
    return await askPatiently(request, credential, options)
  } catch (error) {
    options.signal?.throwIfAborted()
    const isRefused = error instanceof ModelDownloadError && (error.status === 401 || error.status === 403)
    if (!isRefused || !credential?.isFound) throw error
    try {
      return await askPatiently(request, undefined, options)
    } catch {
      options.signal?.throwIfAborted()
      // What the hub said about the token is what helps.
      throw error
    }
  }
}

async function askPatiently(
  request: TagRequest,
  credential: Credential | undefined,
  options: AskOptions,
): Promise<HubPath> {
  const { retryDelaysMs: delays = [1_000, 2_000, 4_000], signal } = options
  for (let tries = 0; ; tries++) {
    try {
      return await askOnce(request, credential, options)
    } catch (error) {
      signal?.throwIfAborted()
      const delay = delays[tries]
      if (delay === undefined || !isTransient(error)) throw error
      await sleep(error.retryAfterMs ?? delay, undefined, signal && { signal })
    }
  }
}

async function askOnce(
  request: TagRequest,
  credential: Credential | undefined,
  { dispatcher, signal, stallMs }: AskOptions,
): Promise<HubPath> {
  let url = new URL(request.url)
  let isTrusted = true
  for (let hop = 0; hop <= mostRedirects; hop++) {
    // The hub names the file to programs of this name only: https://github.com/ggml-org/llama.cpp/pull/11195
    const polite = { 'user-agent': 'llama-cpp', accept: 'application/json', 'accept-encoding': 'identity' }
    const headers = { ...polite, ...(isTrusted && credential && { authorization: credential.value }) }
    const answer = await exchange(url, { method: 'GET', headers, dispatcher, stallMs, signal }).catch((cause) => {
      throw networkError(cause, url, signal)
    })
    const location = answer.header('location')
    if (location === undefined || ![301, 302, 303, 307, 308].includes(answer.status)) {
      return pathIn(answer, { tag: request.tag, credential, url, signal })
    }
    answer.discard()
    url = targetOf(location, url)
    isTrusted &&= url.origin === new URL(request.url).origin
  }
  throw badResponse(`redirects more than ${mostRedirects} times`, new URL(request.url))
}

interface Asked {
  readonly tag: HubTag
  readonly credential: Credential | undefined
  readonly url: URL
  readonly signal: AbortSignal | undefined
}

async function pathIn(answer: Answer, { tag, credential, url, signal }: Asked): Promise<HubPath> {
  if (answer.status === 200) {
    const text = await limitedText(answer).catch((cause) => {
      throw networkError(cause, url, signal)
    })
    const path = fileInAnswer(text)
    if (path) return path
    throw badResponse('names no GGUF file', url)
  }
  answer.discard()
  const { status } = answer
  const header = (name: string) => answer.header(name)
  const retryAfterMs = retryAfterOf(header)
  const words = refusalWords(header, secretsOf({ url: url.href, headers: { credential: credential?.value ?? '' } }))
  const token =
    credential === undefined ? 'it was asked without a token (HF_TOKEN)' : `its token is from ${credential.from}`
  const what =
    status === 404 || status === 400
      ? `: the hub has no ${tag.user}/${tag.repo} with a file ${tag.tag}, or wants a token for it (HF_TOKEN)`
      : status === 401 || status === 403
        ? `; ${token}`
        : ''
  const said = words === undefined ? '' : `; it says: ${words}`
  const wait = retryAfterMs === undefined ? '' : `; it asks to be left alone for ${Math.ceil(retryAfterMs / 1000)} s`
  const label = displayUrl(url)
  throw new ModelDownloadError('ERR_MODEL_HTTP_STATUS', `${label} answered ${status}${what}${said}${wait}`, {
    url: label,
    status,
    retryAfterMs,
  })
}

async function limitedText({ body }: Answer): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const arrived of body) {
    chunks.push(...arrived)
    bytes += arrived.reduce((sum, { length }) => sum + length, 0)
    if (bytes > mostAnswerBytes) break
  }
  return Buffer.concat(chunks).toString()
}

function targetOf(location: string, base: URL): URL {
  const target = URL.canParse(location, base.href) ? new URL(location, base) : undefined
  if (target?.protocol === 'http:' || target?.protocol === 'https:') return target
  throw badResponse('redirects to something that is not an http(s) URL', base)
}

function badResponse(what: string, url: URL): ModelDownloadError {
  const label = displayUrl(url)
  return new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', `${label} ${what}`, { url: label })
}

function networkError(cause: unknown, url: URL, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason
  const label = displayUrl(url)
  const why = cause instanceof Error ? cause.message || (cause as NodeJS.ErrnoException).code : String(cause)
  const message = `The connection to ${label} failed: ${why}`
  return new ModelDownloadError('ERR_MODEL_NETWORK', message, { url: label, cause })
}
