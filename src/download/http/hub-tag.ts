// Asks the hub which file of a repository a tag leads to.
import { ModelDownloadError } from '../errors.ts'
import type { Credential } from '../source/credentials.ts'
import { fileInAnswer, type HubPath } from '../source/hub-tag.ts'
import type { TagRequest } from '../source/resolve.ts'
import type { Answer } from './exchange.ts'
import { badResponse, follow, type HttpOptions, networkError, send, statusError } from './http.ts'
import { patiently } from './retry.ts'

export interface AskOptions extends HttpOptions {
  readonly retryDelaysMs: readonly number[]
}

const mostAnswerBytes = 1024 * 1024

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

function askPatiently(request: TagRequest, credential: Credential | undefined, options: AskOptions): Promise<HubPath> {
  return patiently(() => askOnce(request, credential, options), options.retryDelaysMs, options.signal)
}

async function askOnce(request: TagRequest, credential: Credential | undefined, options: AskOptions): Promise<HubPath> {
  // The hub names the file to programs of this name only: https://github.com/ggml-org/llama.cpp/pull/11195
  const polite = { 'user-agent': 'llama-cpp', accept: 'application/json', 'accept-encoding': 'identity' }
  const secret = credential && { authorization: credential.value }
  const { answer, hop } = await follow(new URL(request.url), ({ url, isTrusted }) =>
    send(options, url, { ...polite, ...(isTrusted && secret) }),
  )
  if (answer.status === 200) {
    const text = await limitedText(answer).catch((cause) => {
      throw networkError(cause, hop.url, options.limits, options.signal)
    })
    const path = fileInAnswer(text)
    if (path) return path
    throw badResponse(hop.url, 'names no GGUF file')
  }
  answer.discard()
  const { user, repo, tag } = request.tag
  const isMissing = answer.status === 404 || answer.status === 400
  const advice = isMissing
    ? `: the hub has no ${user}/${repo} with a file ${tag}, or wants a token for it (HF_TOKEN)`
    : ''
  const { secrets } = options
  throw statusError(answer, hop.url, {
    credential,
    asked: { url: request.url, headers: { ...secret } },
    secrets,
    advice,
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
