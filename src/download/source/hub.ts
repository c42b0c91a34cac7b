// The hub (huggingface.co or a mirror of it): how its files are written, addressed and named, and whose token it gets.
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { invalidSource, redacted } from '../errors.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** A file of a repository. */
export interface HubFile {
  readonly user: string
  readonly repo: string
  readonly revision: string
  /** Folders and the file's name. */
  readonly path: readonly string[]
}

/** A repository's file by its quantization: only the hub knows which one that is. */
export interface HubTag {
  readonly user: string
  readonly repo: string
  /** As the hub takes it: `Q4_K_M`; `latest` for the one it recommends. */
  readonly tag: string
}

/** Where the hub is, ending in a slash: `MODEL_ENDPOINT`, else `HF_ENDPOINT`, else https://huggingface.co/. */
export function hubEndpoint(env: Environment): URL {
  // Empty means unset, as in shells.
  const text = env.MODEL_ENDPOINT || env.HF_ENDPOINT || 'https://huggingface.co'
  const endpoint = URL.canParse(text) ? new URL(text) : undefined
  if (endpoint?.protocol !== 'http:' && endpoint?.protocol !== 'https:') {
    throw invalidSource(`MODEL_ENDPOINT or HF_ENDPOINT is ${redacted(text)}, which is no http(s) URL`)
  }
  if (!endpoint.pathname.endsWith('/')) endpoint.pathname += '/'
  return endpoint
}

const prefix = /^(?:(?:hf|huggingface):(?:\/\/)?|(?:hf|huggingface)\.co\/)/

/**
 * What `hf:user/repo/path/file.gguf[#revision]`, `hf:user/repo:Q4_K_M` or `hf:user/repo` stands for; a hub's page of a repository
 * or a file as well. `undefined` for what is not of the hub.
 */
export function parseHubSource(text: string, endpoint: URL): HubFile | HubTag | undefined {
  const words = prefix.test(text) ? text.replace(prefix, '') : wordsOfPage(text, endpoint)
  if (words === undefined) return undefined
  const [path = '', revision = ''] = words.split(/#(.*)/s)
  const [user = '', repo = '', ...file] = path.split('/')
  if (file.length > 0) {
    const isComplete = ![user, repo, ...file].some((part) => part === '' || part === '.' || part === '..')
    if (isComplete) return { user, repo, revision: revision === '' ? 'main' : revision, path: file }
  } else {
    const [name = '', tag = '', ...more] = repo.split(':')
    const isComplete = ![user, name].some((part) => /^\.{0,2}$/.test(part)) && more.length === 0 && revision === ''
    if (isComplete && /^[\w.-]*$/.test(tag)) return { user, repo: name, tag: tag === '' ? 'latest' : tag }
  }
  throw invalidSource(
    `Not a file on the hub: ${redacted(text)}; write hf:user/repo/path/file.gguf, with the file's name, or hf:user/repo:Q4_K_M`,
  )
}

/** The same words for a page of the hub: of a repository, or of a file in it (`/blob/`). */
function wordsOfPage(text: string, endpoint: URL): string | undefined {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.origin !== endpoint.origin || !url.pathname.startsWith(endpoint.pathname)) return undefined
  const [user, repo, kind, revision, ...file] = url.pathname.slice(endpoint.pathname.length).split('/').map(decoded)
  if (user && repo && (kind === undefined || kind === '')) return `${user}/${repo}`
  if (kind !== 'blob' || file.length === 0) return undefined
  return `${user}/${repo}/${file.join('/')}#${revision}`
}

export function hubFileUrl({ user, repo, revision, path }: HubFile, endpoint: URL): string {
  return `${endpoint.href}${[user, repo, 'resolve', revision, ...path].map(encodeURIComponent).join('/')}`
}

// Hundreds of repos hold a file of the same name, so the name tells the repo. It follows node-llama-cpp's own scheme
// (`hf_user_repo_file`, the repo left out where the file's name repeats it), so that one folder serves both.
export function hubFileName({ user, repo, revision, path }: HubFile): string {
  const file = path.at(-1) ?? ''
  const folders = path.slice(0, -1)
  const base = baseName(repo).toLowerCase()
  const isRepeated = base !== repo.toLowerCase() && file.toLowerCase().startsWith(base) && /\.gguf$/i.test(file)
  if (folders.at(-1)?.toLowerCase() === file.replace(/(-\d{5}-of-\d{5})?\.gguf$/i, '').toLowerCase()) folders.pop()
  const prefix = ['hf', user]
  if (!isRepeated || revision !== 'main') prefix.push(repo)
  if (revision !== 'main') prefix.push(revision.replaceAll('/', '!'))
  if (folders.length > 0) prefix.push(folders.join('__'))
  return [...prefix, file].join('_')
}

const recommended = 'Q4_K_M'

/** The name of the file that a tag leads to, again as node-llama-cpp names it: by the tag, not by the file on the hub. */
export function taggedFileName({ user, repo, tag }: HubTag, hubPath: string): string {
  const known = tag === 'latest' ? quantizationOf(hubPath) : tag.toUpperCase()
  const file = `${baseName(repo)}${known === '' ? '' : `.${known}`}.gguf`
  const name = hubFileName({ user, repo, revision: 'main', path: [file] })
  const split = /-\d{5}-of-\d{5}\.gguf$/.exec(hubPath)
  return split ? name.replace(/\.gguf$/, split[0]) : name
}

function quantizationOf(hubPath: string): string {
  if (hubPath.toUpperCase().includes(recommended)) return recommended
  return (
    /[-._](I?Q\d\w*|TQ\d\w*|BF16|F16|F32|MXFP4\w*)(?:-\d{5}-of-\d{5})?\.gguf$/i.exec(hubPath)?.[1]?.toUpperCase() ?? ''
  )
}

function baseName(repo: string): string {
  return repo.replace(/-gguf$/i, '')
}

/** The hub's token, as its own tools find it: `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `token` in `HF_HOME`. */
export function hubToken(env: Environment): string | undefined {
  const given = env.HF_TOKEN?.trim()
  if (given) return given
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface')
  try {
    return readFileSync(env.HF_TOKEN_PATH || join(home, 'token'), 'utf8').trim() || undefined
  } catch {
    return undefined
  }
}

/** Whether the hub must not be asked: `HF_HUB_OFFLINE`. */
export function isHubOffline(env: Environment): boolean {
  return /^(1|true|yes|on)$/i.test(env.HF_HUB_OFFLINE ?? '')
}

/** Percent-decoded where that is possible; a lone `%` stands for itself, as in browsers. */
export function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
