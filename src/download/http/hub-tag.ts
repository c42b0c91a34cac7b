// Asks the hub which file of a repository a tag leads to.
import { type Dispatcher, interceptors, request } from 'undici'
import { ModelDownloadError } from '../errors.ts'
import { fileInAnswer, type HubPath } from '../source/hub-tag.ts'
import type { TagRequest } from '../source/resolve.ts'

export interface AskOptions {
  readonly dispatcher: Dispatcher
  readonly signal: AbortSignal | undefined
  readonly stallMs: number
}

const mostAnswerBytes = 1024 * 1024

/**
 * The path of the file within its repository.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_HTTP_STATUS`, `ERR_MODEL_BAD_RESPONSE`, `ERR_MODEL_NETWORK`; the signal's reason.
 */
export async function askForTag({ tag, url, label, credential }: TagRequest, options: AskOptions): Promise<HubPath> {
  try {
    const answer = await request(url, {
      // The hub tells the file to programs of this name only: https://github.com/ggml-org/llama.cpp/pull/11195
      headers: {
        'user-agent': 'llama-cpp',
        accept: 'application/json',
        ...(credential && { authorization: credential.value }),
      },
      // Of all headers that may be secret only this is sent: on its way to another origin undici takes it off.
      dispatcher: options.dispatcher.compose(
        interceptors.redirect({ maxRedirections: 5 }),
        interceptors.retry({ maxRetries: 3, minTimeout: 1_000, maxTimeout: 10_000, throwOnError: false }),
      ),
      headersTimeout: options.stallMs,
      bodyTimeout: options.stallMs,
      signal: options.signal ?? null,
    })
    const text = await limitedText(answer.body)
    if (answer.statusCode === 200) return answeredPath(text, label)
    const what =
      answer.statusCode === 404 || answer.statusCode === 400
        ? `: the hub has no ${tag.user}/${tag.repo} with a file ${tag.tag}, or wants a token for it (HF_TOKEN)`
        : answer.statusCode === 401 || answer.statusCode === 403
          ? '; it wants a token, or another than it got (HF_TOKEN)'
          : ''
    throw new ModelDownloadError('ERR_MODEL_HTTP_STATUS', `${label} answered ${answer.statusCode}${what}`, {
      url: label,
      status: answer.statusCode,
    })
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason
    if (error instanceof ModelDownloadError) throw error
    const why = error instanceof Error ? error.message : String(error)
    throw new ModelDownloadError('ERR_MODEL_NETWORK', `The connection to ${label} failed: ${why}`, {
      url: label,
      cause: error,
    })
  }
}

async function limitedText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    if (bytes > mostAnswerBytes) break
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

function answeredPath(text: string, label: string): HubPath {
  const path = fileInAnswer(text)
  if (path) return path
  throw new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', `${label} names no GGUF file`, { url: label })
}
