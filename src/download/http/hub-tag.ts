// Which file of a repository a tag leads to: the hub's word, kept in the models folder, so that a file that is there is found
// without asking again.
import { mkdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Dispatcher, interceptors, request } from 'undici'
import { onDisk, randomId, readSmallJson, removeQuietly, writeNewDurably } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { displayUrl, ModelDownloadError } from '../errors.ts'
import { type HubTag, hubFileName, taggedFileName } from '../source/hub.ts'
import { type ModelSourceObject, sourceHeaders } from '../source/parse.ts'
import { allParts, type ModelFiles } from '../source/resolve.ts'

export interface Lookup {
  readonly tag: HubTag
  /** The caller's words: a file name, headers. */
  readonly given: ModelSourceObject
  readonly endpoint: URL
  readonly modelsDirectory: string
}

/** What was found out earlier, if anything. */
export async function recallTag(lookup: Lookup): Promise<ModelFiles | undefined> {
  const kept = await readSmallJson(notePath(lookup))
  const isOfThisHub = kept?.version === 1 && kept.endpoint === lookup.endpoint.href
  return isOfThisHub && typeof kept.file === 'string' && isHubPath(kept.file) ? filesOf(lookup, kept.file) : undefined
}

export interface AskOptions {
  readonly dispatcher: Dispatcher
  readonly signal: AbortSignal | undefined
  readonly stallMs: number
}

/**
 * Asks the hub, and keeps the answer.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_HTTP_STATUS`, `ERR_MODEL_BAD_RESPONSE`, `ERR_MODEL_NETWORK`; the signal's reason.
 */
export async function askForTag(lookup: Lookup, options: AskOptions): Promise<ModelFiles> {
  const file = await askHub(lookup, options)
  const files = filesOf(lookup, file)
  const [path, folder] = [notePath(lookup), dirname(notePath(lookup))]
  await onDisk('creating', folder, mkdir(folder, { recursive: true }))
  const draft = `${path}.${randomId()}`
  await onDisk(
    'writing',
    draft,
    writeNewDurably(draft, JSON.stringify({ version: 1, endpoint: lookup.endpoint.href, file })),
  )
  // A note that can't be replaced just now costs a question the next time.
  await filePlatform.replace(draft, path, options.signal).catch(() => removeQuietly(draft))
  return files
}

const mostAnswerBytes = 1024 * 1024

async function askHub({ tag, given, endpoint }: Lookup, options: AskOptions): Promise<string> {
  const { user, repo } = tag
  const url = new URL(`${endpoint.href}v2/${[user, repo, 'manifests', tag.tag].map(encodeURIComponent).join('/')}`)
  const label = displayUrl(url)
  const { authorization } = sourceHeaders(given, url, process.env)
  try {
    const answer = await request(url, {
      // The hub tells the file to programs of this name only: https://github.com/ggml-org/llama.cpp/pull/11195
      headers: { 'user-agent': 'llama-cpp', accept: 'application/json', ...(authorization && { authorization }) },
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
    if (answer.statusCode === 200) return fileIn(text, label)
    const what =
      answer.statusCode === 404 || answer.statusCode === 400
        ? `: the hub has no ${user}/${repo} with a file ${tag.tag}, or wants a token for it (HF_TOKEN)`
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

function fileIn(text: string, label: string): string {
  let file: unknown
  try {
    file = (JSON.parse(text) as { ggufFile?: { rfilename?: unknown } | null } | null)?.ggufFile?.rfilename
  } catch {
    file = undefined
  }
  if (typeof file === 'string' && isHubPath(file)) return file
  throw new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', `${label} names no GGUF file`, { url: label })
}

/** A path within a repository that can't lead out of it. */
function isHubPath(path: string): boolean {
  return path.length <= 500 && path.split('/').every((part) => part !== '' && part !== '.' && part !== '..')
}

function filesOf({ tag, given }: Lookup, file: string): ModelFiles {
  return allParts({
    ...given,
    url: `hf:${tag.user}/${tag.repo}/${file}`,
    fileName: given.fileName ?? taggedFileName(tag, file),
  })
}

function notePath({ tag, modelsDirectory }: Lookup): string {
  const name = hubFileName({ user: tag.user, repo: tag.repo, revision: 'main', path: [`${tag.repo}.${tag.tag}`] })
  return join(modelsDirectory, `.${name}.os-mutex-hub.json`)
}
