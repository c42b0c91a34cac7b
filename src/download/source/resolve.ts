// What a source leads to on this machine and in this environment: files to download, a tag that only the hub can read,
// or files that are here.
import { displayUrl, invalidSource, notHere, redacted } from '../errors.ts'
import { type Access, accessOf, isOnHub, withoutSecrets } from './access.ts'
import type { Credential } from './credentials.ts'
import {
  type CutName,
  checkedFileName,
  cutName,
  distinctFileName,
  fittedFileName,
  partName,
  partsOf,
  splitName,
} from './file-name.ts'
import {
  decoded,
  type Environment,
  type HubTag,
  hubAddresses,
  hubFileName,
  hubFileUrl,
  hubTagUrl,
  isHubOffline,
  taggedFileName,
} from './hub.ts'
import { hubIdentity, joinedIdentity, type SourceIdentity, webIdentity } from './identity.ts'
import { isBareName, isFileThere, modelPathOf } from './local-path.ts'
import {
  type FilePlace,
  type ModelSource,
  notASource,
  type ParsedSource,
  type PathPlace,
  parseSource,
  type ResolvedSource,
  type TagPlace,
} from './parse.ts'

export type ModelFiles = readonly [ResolvedSource, ...ResolvedSource[]]

export type ModelRequest = LocalRequest | FilesRequest | TagRequest

/** Files of the caller's own. */
export interface LocalRequest {
  readonly kind: 'local'
  /** Absolute. All parts of a split model, in order; else one. */
  readonly paths: readonly [string, ...string[]]
  readonly sha256: string | undefined
  readonly bytes: number | undefined
}

/** Files to download: all parts of a split model, in order; else one. */
export interface FilesRequest {
  readonly kind: 'files'
  readonly files: ModelFiles
  /** They are on the hub, and the hub must not be asked. */
  readonly isOffline: boolean
}

/** Files that only the hub can name. */
export interface TagRequest {
  readonly kind: 'tag'
  readonly tag: HubTag
  /** Where the hub says which file it is. */
  readonly url: string
  /** Origin and path of `url`. */
  readonly label: string
  /** Origin and path of the hub. */
  readonly hub: string
  /** Of the caller's headers only `authorization`, or what is found here. */
  readonly credential?: Credential
  readonly isOffline: boolean
  /** The files, once the hub has named one: a path within the repository. */
  readonly filesAt: (path: readonly [string, ...string[]]) => ModelFiles
}

/**
 * Checks what is asked for. A path may be absolute, relative to the working folder (`./m.gguf`), in the home folder
 * (`~/m.gguf`), a `file:` URL, or a bare `m.gguf`, which is in `modelsDirectory`. `models/m.gguf` is a path where there
 * is such a file.
 *
 * `hf:` sources go to `MODEL_ENDPOINT`, else `HF_ENDPOINT`, else https://huggingface.co, and are named as
 * node-llama-cpp names them. So do web addresses of the hub, unless they bring credentials: those are for their own
 * host. The hub's token is sent to that endpoint's origin, also for a plain URL of it; user info in a URL becomes an
 * `authorization` header.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_INVALID_SOURCE`; `ERR_MODEL_NOT_FOUND` for a bare name that is in the working
 *   folder only
 */
export function resolveRequest(
  input: ModelSource,
  modelsDirectory: string,
  env: Environment = process.env,
): ModelRequest {
  const asked = parseSource(input, hubAddresses(env))
  const { place } = asked
  switch (place.kind) {
    case 'path':
      return localRequest(place, asked, modelsDirectory)
    case 'tag':
      return tagRequest(place, asked, env)
    default:
      return {
        kind: 'files',
        files: filesOf(place, asked, accessOf(place, asked, env)),
        isOffline: isHubOffline(env) && isOnHub(place, env),
      }
  }
}

/**
 * The source of one file, taken as it is written: a part of a split model is that part alone.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_INVALID_SOURCE`, also for paths and tags
 */
export function resolveSource(input: ModelSource, env: Environment = process.env): ResolvedSource {
  const asked = parseSource(input, hubAddresses(env))
  const { place } = asked
  if (place.kind === 'path') throw notASource(place.text)
  if (place.kind === 'tag') throw invalidSource(`Only the hub knows which file ${tagWords(place.tag)} is`)
  return resolveFile(place, asked, accessOf(place, asked, env), { name: asked.fileName })
}

export function tagWords({ user, repo, tag }: HubTag): string {
  return `hf:${user}/${repo}:${tag}`
}

function localRequest({ text, isSure }: PathPlace, asked: ParsedSource, modelsDirectory: string): LocalRequest {
  const path = modelPathOf(text, modelsDirectory)
  if (!isSure && !isFileThere(path)) throw notASource(text, hintFor(text))
  if (isBareName(text) && !isFileThere(path) && isFileThere(text)) {
    throw notHere(
      path,
      `a bare name is one in the models folder. There is a file of that name in the working folder: write ./${text}`,
    )
  }
  const paths = partsOf(path)
  const { sha256, bytes } = asked
  if (paths.length > 1) refuseExpectations(asked, path, paths.length)
  return { kind: 'local', paths, sha256, bytes }
}

/** `user/repo/file.gguf` and `models/file.gguf` look the same. */
function hintFor(text: string): string {
  if (isBareName(text)) return ''
  const shown = redacted(text).slice(1, -1)
  return `. There is no such file in the working folder: write ./${shown} for a file, hf:${shown} for one on the hub`
}

function tagRequest(place: TagPlace, asked: ParsedSource, env: Environment): TagRequest {
  const { tag } = place
  const access = accessOf(place, asked, env)
  const url = hubTagUrl(tag, access.hub)
  return {
    kind: 'tag',
    tag,
    url: url.href,
    label: displayUrl(url),
    hub: displayUrl(access.hub),
    ...(access.credential && { credential: access.credential }),
    isOffline: isHubOffline(env),
    filesAt: (path) => {
      const last = path.at(-1) ?? ''
      const defaultName = taggedFileName(tag, cutName(last)?.whole ?? last)
      const file = { user: tag.user, repo: tag.repo, revision: 'main', path }
      return filesOf({ kind: 'hub', file }, asked, access, defaultName)
    },
  }
}

function filesOf(place: FilePlace, asked: ParsedSource, access: Access, defaultName?: string): ModelFiles {
  const cut = cutName(lastPart(place))
  if (cut) return [joinedFile(place, cut, asked, access, defaultName)]
  const split = splitName(lastPart(place))
  if (split === undefined) return [resolveFile(place, asked, access, { name: asked.fileName, defaultName })]
  refuseExpectations(asked, decoded(lastPart(place)), split.count)
  const nameOf = (name: string | undefined, part: number) => name && partName({ ...split, stem: stemOf(name) }, part)
  const partAt = (part: number) => withLastPart(place, partName(split, part))
  const suffixOf = identityOf(partAt(1)).key
  const resolvePart = (part: number) =>
    resolveFile(partAt(part), asked, access, {
      name: nameOf(asked.fileName, part),
      defaultName: nameOf(defaultName, part),
      suffixOf,
    })
  return [resolvePart(1), ...Array.from({ length: split.count - 1 }, (_, index) => resolvePart(index + 2))]
}

function stemOf(name: string): string {
  return splitName(name)?.stem ?? name.replace(/\.gguf$/i, '')
}

function refuseExpectations({ sha256, bytes }: ParsedSource, label: string, count: number): void {
  if (sha256 === undefined && bytes === undefined) return
  throw invalidSource(
    `${label} is one of ${count} parts, so one \`sha256\` or \`bytes\` can't be meant for it; leave them out, the hub tells them of each part`,
  )
}

function joinedFile(
  place: FilePlace,
  { whole, pieces }: CutName,
  asked: ParsedSource,
  access: Access,
  defaultName: string | undefined,
): ResolvedSource {
  const naming = { name: asked.fileName, defaultName }
  const { plainName: _, plainLabel: __, ...file } = resolveFile(withLastPart(place, whole), asked, access, naming)
  const ofPieces = { ...asked, sha256: undefined, bytes: undefined }
  const pieceOf = (name: string) =>
    resolveFile(withLastPart(place, name), ofPieces, access, { defaultName: file.fileName + name.slice(whole.length) })
  const [firstName, ...otherNames] = pieces
  const first = pieceOf(firstName)
  const identity = joinedIdentity(first)
  const suffix = identity.key.slice(0, 8)
  return {
    ...file,
    ...identity,
    url: first.url,
    label: first.label,
    suffix,
    distinctName: distinctFileName(file.fileName, suffix),
    pieces: [first, ...otherNames.map(pieceOf)],
  }
}

interface Naming {
  /** By the caller's word. */
  readonly name?: string | undefined
  /** Where the place itself does not say the right one. */
  readonly defaultName?: string | undefined
  /** The key that the suffix is taken from. Default: the file's own. */
  readonly suffixOf?: string
}

function resolveFile(place: FilePlace, asked: ParsedSource, access: Access, naming: Naming): ResolvedSource {
  const url = place.kind === 'hub' ? hubFileUrl(place.file, access.hub) : withoutSecrets(place.url)
  const { credential } = access
  const identity = identityOf(place)
  const { name, defaultName = nameAt(place), suffixOf = identity.key } = naming
  const fileName = name === undefined ? fittedFileName(defaultName) : checkedFileName(name)
  const suffix = suffixOf.slice(0, 8)
  return {
    url: url.href,
    label: displayUrl(url),
    ...identity,
    fileName,
    isNamed: name !== undefined,
    suffix,
    distinctName: distinctFileName(fileName, suffix),
    ...plainWords(place),
    headers: { ...asked.headers, ...(credential && { authorization: credential.value }) },
    ...(credential && { credential }),
    ...(asked.sha256 !== undefined && { sha256: asked.sha256 }),
    ...(asked.bytes !== undefined && { bytes: asked.bytes }),
  }
}

function identityOf(place: FilePlace): SourceIdentity {
  return place.kind === 'hub' ? hubIdentity(place.file) : webIdentity(place.url)
}

function nameAt(place: FilePlace): string {
  return place.kind === 'hub' ? hubFileName(place.file) : decoded(lastPart(place))
}

/** The name and the address that a link to a file on the hub has as a plain URL. */
function plainWords(place: FilePlace): Pick<ResolvedSource, 'plainName' | 'plainLabel'> {
  if (place.kind !== 'hub' || place.link?.kind !== 'file') return {}
  const plainLabel = displayUrl(place.link.url)
  try {
    return { plainName: checkedFileName(lastPart(place)), plainLabel }
  } catch {
    return {}
  }
}

/** For the hub as it is, for a URL as it is encoded there. */
function lastPart(place: FilePlace): string {
  return (place.kind === 'hub' ? place.file.path.at(-1) : place.url.pathname.split('/').at(-1)) ?? ''
}

function withLastPart(place: FilePlace, name: string): FilePlace {
  if (place.kind === 'web') {
    const url = new URL(place.url)
    url.pathname = url.pathname.slice(0, url.pathname.lastIndexOf('/') + 1) + name
    return { kind: 'web', url }
  }
  const [first, ...rest] = [...place.file.path.slice(0, -1), name]
  const file = { ...place.file, path: [first ?? name, ...rest] as const }
  return { ...place, file }
}
