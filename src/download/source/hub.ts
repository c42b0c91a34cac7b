// The hub (huggingface.co or a mirror of it): how its files are written, addressed and named.
import { invalidSource, redacted } from '../errors.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** A file of a repository. */
export interface HubFile {
  readonly user: string
  readonly repo: string
  readonly revision: string
  /** Folders and the file's name. */
  readonly path: readonly [string, ...string[]]
}

/** A repository's file by its quantization: only the hub knows which one that is. */
export interface HubTag {
  readonly user: string
  readonly repo: string
  /** As the hub takes it: `Q4_K_M`; `latest` for the one it recommends. */
  readonly tag: string
}

/** A web address on the hub. */
export interface HubLink {
  readonly url: URL
  /** The hub's address that it begins with. Ends in a slash, and has no user info. */
  readonly base: URL
  /** `blob` for the page of a file, `resolve` for the file itself. */
  readonly kind: 'page' | 'file'
}

const publicHub = 'https://huggingface.co/'
const publicHosts = new Set(['huggingface.co', 'hf.co', 'www.huggingface.co', 'www.hf.co'])

/** Where the hub is asked, ending in a slash: `MODEL_ENDPOINT`, else `HF_ENDPOINT`, else https://huggingface.co/. */
export function hubEndpoint(env: Environment): URL {
  // Empty means unset, as in shells.
  const text = env.MODEL_ENDPOINT || env.HF_ENDPOINT || publicHub
  const endpoint = endpointOf(text)
  if (endpoint) return endpoint
  throw invalidSource(`${hubVariable(env)} is ${redacted(text)}, which is no http(s) URL`)
}

/** The variable that names the endpoint. */
export function hubVariable(env: Environment): string {
  return env.MODEL_ENDPOINT ? 'MODEL_ENDPOINT' : 'HF_ENDPOINT'
}

/** All addresses that a link to the hub may begin with. */
export function hubAddresses(env: Environment): readonly URL[] {
  const endpoints = [env.MODEL_ENDPOINT, env.HF_ENDPOINT, publicHub]
  return endpoints.map((text) => endpointOf(text || '')).filter((endpoint) => endpoint !== undefined)
}

function endpointOf(text: string): URL | undefined {
  const endpoint = URL.canParse(text) ? new URL(text) : undefined
  if (endpoint?.protocol !== 'http:' && endpoint?.protocol !== 'https:') return undefined
  if (!endpoint.pathname.endsWith('/')) endpoint.pathname += '/'
  endpoint.search = ''
  endpoint.hash = ''
  return endpoint
}

const prefix = /^(?:(?:hf|huggingface):(?:\/\/)?|(?:hf|huggingface)\.co\/)/

/**
 * What `hf:user/repo/path/file.gguf[#revision]`, `hf:user/repo:Q4_K_M` or `hf:user/repo` stands for. `%23` is a `#` in
 * a name. `undefined` for what is not written so.
 */
export function parseHubWords(text: string): HubFile | HubTag | undefined {
  if (!prefix.test(text)) return undefined
  const [place = '', revision = ''] = text.replace(prefix, '').split(/#(.*)/s)
  const literal = (part: string) => part.replaceAll('%23', '#')
  const [user = '', repo = '', ...path] = place.split('/').map(literal)
  const found =
    path.length > 0 ? hubFile(user, repo, literal(revision), path) : revision === '' ? hubTag(user, repo) : undefined
  if (found) return found
  throw invalidSource(
    `Not a file on the hub: ${redacted(text)}; write hf:user/repo/path/file.gguf, with the file's name, or hf:user/repo:Q4_K_M`,
  )
}

/**
 * The same for an address of the hub: of a repository, of a file's page (`/blob/`) or of the file (`/resolve/`).
 * `undefined` for what is not of the hub, or is something else there.
 */
export function parseHubLink(
  url: URL,
  addresses: readonly URL[],
): { readonly found: HubFile | HubTag; readonly link: HubLink } | undefined {
  const base = addressOf(url, addresses)
  if (base === undefined) return undefined
  const root = publicHosts.has(url.hostname) ? '/' : base.pathname
  const [user = '', repo = '', kind = '', ...rest] = url.pathname.slice(root.length).split('/').map(decoded)
  if (kind === '' && rest.length === 0) {
    const found = hubTag(user, repo)
    return found && { found, link: { url, base, kind: 'page' } }
  }
  if (kind !== 'blob' && kind !== 'resolve') return undefined
  // What else a link asks for is unknown here, so it is left as it is. A page's query is only for its reader.
  if (kind === 'resolve' && [...url.searchParams.keys()].some((name) => name !== 'download')) return undefined
  const found = hubFile(user, repo, ...revisionAndPath(rest))
  return found && { found, link: { url, base, kind: kind === 'blob' ? 'page' : 'file' } }
}

function addressOf(url: URL, addresses: readonly URL[]): URL | undefined {
  const isBelow = ({ origin, pathname }: URL) => url.origin === origin && url.pathname.startsWith(pathname)
  const isPublic = publicHosts.has(url.hostname) && url.port === ''
  const address = isPublic ? new URL(publicHub) : addresses.find(isBelow)
  return address && new URL(address.pathname, address.origin)
}

/** These revisions have slashes of their own: `refs/pr/1`, `refs/convert/parquet`. */
function revisionAndPath([first = '', ...rest]: readonly string[]): [revision: string, path: readonly string[]] {
  const [kind, name, ...path] = rest
  const isReference = first === 'refs' && (kind === 'pr' || kind === 'convert') && name !== undefined
  return isReference ? [`refs/${kind}/${name}`, path] : [first, rest]
}

function hubFile(user: string, repo: string, revision: string, path: readonly string[]): HubFile | undefined {
  const [first, ...rest] = path
  if (first === undefined || /^\.\.?$/.test(revision) || ![user, repo, ...path].every(isPart)) return undefined
  return { user, repo, revision: revision === '' ? 'main' : revision, path: [first, ...rest] }
}

function hubTag(user: string, words: string): HubTag | undefined {
  const [repo = '', tag = '', ...more] = words.split(':')
  const isComplete = isPart(user) && isPart(repo) && more.length === 0 && /^[\w.-]*$/.test(tag)
  return isComplete ? { user, repo, tag: tag === '' ? 'latest' : tag } : undefined
}

function isPart(part: string): boolean {
  return part !== '' && part !== '.' && part !== '..' && !part.includes('/')
}

/** A path within a repository, by the hub's own word. `undefined` for one that could lead out of it. */
export function parseHubPath(text: unknown): readonly [string, ...string[]] | undefined {
  if (typeof text !== 'string' || text.length > 500) return undefined
  const [first = '', ...rest] = text.split('/')
  return [first, ...rest].every(isPart) ? [first, ...rest] : undefined
}

/** `base`: the hub's address, ending in a slash. */
export function hubFileUrl({ user, repo, revision, path }: HubFile, base: URL): URL {
  return new URL(base.pathname + [user, repo, 'resolve', revision, ...path].map(encodeURIComponent).join('/'), base)
}

/** Where the hub says which file a tag leads to. */
export function hubTagUrl({ user, repo, tag }: HubTag, base: URL): URL {
  return new URL(`${base.pathname}v2/${[user, repo, 'manifests', tag].map(encodeURIComponent).join('/')}`, base)
}

/**
 * The same file for every host of the hub. The parts are encoded, so that no `#` or `/` in one is taken for a border.
 */
export function hubFileWords({ user, repo, revision, path }: HubFile): string {
  return `hf:${[user, repo, ...path].map(encodeURIComponent).join('/')}#${encodeURIComponent(revision)}`
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

/**
 * The name of the file that a tag leads to, again as node-llama-cpp names it: by the tag, not by the file on the hub.
 */
export function taggedFileName({ user, repo, tag }: HubTag, fileOnHub: string): string {
  const known = tag === 'latest' ? quantizationOf(fileOnHub) : tag.toUpperCase()
  const file = `${baseName(repo)}${known === '' ? '' : `.${known}`}.gguf`
  const name = hubFileName({ user, repo, revision: 'main', path: [file] })
  const split = /-\d{5}-of-\d{5}\.gguf$/.exec(fileOnHub)
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
