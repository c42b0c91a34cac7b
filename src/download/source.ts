// What to fetch: turns the caller's words into one URL, one safe file name and the headers for that URL's origin.
import { createHash } from 'node:crypto'
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { displayUrl, ModelDownloadError } from './errors.ts'

export interface ModelSourceObject {
  /** `https://…`, `http://…` or `hf:user/repo/path/file.gguf[#revision]`. */
  readonly url: string
  /** Expected SHA-256 of the whole file, 64 hexadecimal digits. Without it the server's word is all there is. */
  readonly sha256?: string
  /** Expected size of the file in bytes. */
  readonly bytes?: number
  /** Sent to the URL's own origin only, never along a redirect to another. */
  readonly headers?: Readonly<Record<string, string>>
  /** Name of the file in the models folder; default: from the URL. */
  readonly fileName?: string
}

export type ModelSource = string | ModelSourceObject

export interface ResolvedSource {
  /** The whole URL, query included: a secret. Show `label` instead. */
  readonly url: string
  /** Origin and path: what messages, events and manifests may say. */
  readonly label: string
  /** SHA-256 of `url`: tells sources apart on disk without storing their secrets. */
  readonly key: string
  readonly fileName: string
  /** Lower-case names; may hold credentials; for `url`'s origin only. */
  readonly headers: Readonly<Record<string, string>>
  readonly sha256?: string
  readonly bytes?: number
}

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Checks a source and says where it leads.
 *
 * `hf:` sources go to `MODEL_ENDPOINT`, else `HF_ENDPOINT`, else https://huggingface.co, and are named as node-llama-cpp
 * names them. `HF_TOKEN` is sent to that endpoint's origin, also for a plain URL of it; user info in a URL becomes an
 * `authorization` header.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_INVALID_SOURCE`
 */
export function resolveSource(input: ModelSource, env: Environment = process.env): ResolvedSource {
  const given: ModelSourceObject = typeof input === 'string' ? { url: input } : input
  if (typeof given !== 'object' || given === null || typeof given.url !== 'string') {
    throw invalid('A model source is a URL, or an object with a `url`')
  }
  const endpoint = hubEndpoint(env)
  const hub = given.url.startsWith('hf:') ? hubFile(given.url, endpoint) : undefined
  const url = parseHttpUrl(hub?.url ?? given.url)
  const headers = { ...credentials(url, endpoint, env), ...checkedHeaders(given.headers) }
  url.username = ''
  url.password = ''
  url.hash = ''
  const sha256 = checkedSha256(given.sha256)
  const bytes = checkedBytes(given.bytes)
  return {
    url: url.href,
    label: displayUrl(url),
    key: createHash('sha256').update(url.href).digest('hex'),
    fileName: checkedFileName(given.fileName ?? hub?.fileName ?? decoded(url.pathname.split('/').at(-1) ?? '')),
    headers,
    ...(sha256 !== undefined && { sha256 }),
    ...(bytes !== undefined && { bytes }),
  }
}

function invalid(message: string): ModelDownloadError {
  return new ModelDownloadError('ERR_MODEL_INVALID_SOURCE', message)
}

/** For messages about text that may not even be a URL: whatever could be a credential is cut off. */
function redacted(text: string): string {
  const shown = text.replace(/[?#].*$/s, '').replace(/\/\/[^/]*@/, '//')
  return JSON.stringify(shown.length > 200 ? `${shown.slice(0, 200)}…` : shown)
}

function parseHttpUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url
  throw invalid(`Not a model source: ${redacted(text)}; give an http(s) URL or hf:user/repo/file.gguf`)
}

function hubEndpoint(env: Environment): URL {
  // Empty means unset, as in shells.
  const endpoint = parseHttpUrl(env.MODEL_ENDPOINT || env.HF_ENDPOINT || 'https://huggingface.co')
  if (!endpoint.pathname.endsWith('/')) endpoint.pathname += '/'
  return endpoint
}

function credentials(url: URL, endpoint: URL, env: Environment): Record<string, string> {
  if (url.username !== '' || url.password !== '') {
    const pair = `${decoded(url.username)}:${decoded(url.password)}`
    return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` }
  }
  const token = env.HF_TOKEN?.trim()
  if (token && url.origin === endpoint.origin) return checkedHeaders({ authorization: `Bearer ${token}` })
  return {}
}

function hubFile(text: string, endpoint: URL): { url: string; fileName: string } {
  const [path = '', revision = ''] = text.slice('hf:'.length).split(/#(.*)/s)
  const [user = '', repo = '', ...parts] = path.split('/')
  const branch = revision === '' ? 'main' : revision
  if ([user, repo, ...parts].some((part) => part === '' || part === '.' || part === '..') || parts.length === 0) {
    throw invalid(`Not a file on the hub: ${redacted(text)}; write hf:user/repo/path/file.gguf, with the file's name`)
  }
  const where = [user, repo, 'resolve', branch, ...parts].map(encodeURIComponent).join('/')
  return { url: `${endpoint.href}${where}`, fileName: hubFileName(user, repo, branch, parts) }
}

// Hundreds of repos hold a file of the same name, so the name tells the repo. It follows node-llama-cpp's own scheme
// (`hf_user_repo_file`, the repo left out where the file's name repeats it), so that one folder serves both.
function hubFileName(user: string, repo: string, branch: string, parts: readonly string[]): string {
  const file = parts.at(-1) ?? ''
  const folders = parts.slice(0, -1)
  const stem = repo.toLowerCase().endsWith('-gguf') ? repo.slice(0, -'-gguf'.length).toLowerCase() : undefined
  const repeated = stem !== undefined && file.toLowerCase().startsWith(stem) && file.toLowerCase().endsWith('.gguf')
  if (folders.at(-1)?.toLowerCase() === file.slice(0, -'.gguf'.length).toLowerCase()) folders.pop()
  const prefix = ['hf', user]
  if (!repeated || branch !== 'main') prefix.push(repo)
  if (branch !== 'main') prefix.push(branch.replaceAll('/', '!'))
  if (folders.length > 0) prefix.push(folders.join('__'))
  return [...prefix, file].join('_')
}

/** Percent-decoded where that is possible; a lone `%` stands for itself, as in browsers. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

// The same rule on every system, so that a models folder can move between them. The length leaves room for the suffix
// of a partial within the 255 bytes that file systems allow. For Windows see
// https://learn.microsoft.com/windows/win32/fileio/naming-a-file: some names lead to a device in whatever folder and with
// whatever extension, and one like MODEL~1.GGU may lead to the file of a longer name.
const maxFileNameBytes = 200
const deviceName = /^(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)/i
const shortName = /^(?=[^.]{1,8}(\.|$))[^.]*~\d+(\.[^.]{0,3})?$/

function checkedFileName(name: string): string {
  const legal =
    typeof name === 'string' &&
    name !== '' &&
    name !== '.' &&
    name !== '..' &&
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is there to refuse
    !/[\u0000-\u001f\u007f/\\:*?"<>|]|[. ]$/.test(name) &&
    !deviceName.test(name) &&
    !shortName.test(name) &&
    Buffer.from(name).toString() === name && // no lone surrogates
    Buffer.byteLength(name) <= maxFileNameBytes
  if (legal) return name
  const shown = typeof name === 'string' ? JSON.stringify(name.slice(0, 200)) : String(name)
  throw invalid(
    `${shown} cannot name a model file; give a \`fileName\` of 1 to ${maxFileNameBytes} bytes without / \\ : * ? " < > | ` +
      'or control characters, not . or .., not ending in a dot or a space, and nothing that means something else on Windows (CON, NUL.gguf, MODEL~1.GGU)',
  )
}

function checkedHeaders(headers: Readonly<Record<string, string>> | undefined): Record<string, string> {
  const checked: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers ?? {})) {
    try {
      validateHeaderName(name)
      validateHeaderValue(name, value)
    } catch {
      // Without the cause: it may quote the value.
      throw invalid(`The header ${JSON.stringify(name)} has an illegal name or value`)
    }
    checked[name.toLowerCase()] = value
  }
  return checked
}

function checkedSha256(sha256: string | undefined): string | undefined {
  if (sha256 === undefined) return undefined
  if (typeof sha256 === 'string' && /^[0-9a-f]{64}$/i.test(sha256)) return sha256.toLowerCase()
  throw invalid('`sha256` must be 64 hexadecimal digits')
}

function checkedBytes(bytes: number | undefined): number | undefined {
  if (bytes === undefined || (Number.isSafeInteger(bytes) && bytes > 0)) return bytes
  throw invalid('`bytes` must be a whole number above 0')
}
