// What a caller asks for: one file, all parts of a split model, a file that only the hub can name, or a file that is here.
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { invalidSource, redacted } from '../errors.ts'
import { type Environment, type HubTag, hubEndpoint, isHubOffline, parseHubSource } from './hub.ts'
import {
  asObject,
  checkedBytes,
  checkedSha256,
  type ModelSource,
  type ModelSourceObject,
  type ResolvedSource,
  resolveSource,
} from './parse.ts'

export interface LocalFile {
  readonly path: string
  readonly sha256: string | undefined
  readonly bytes: number | undefined
}

export type ModelFiles = readonly [ResolvedSource, ...ResolvedSource[]]

export type ModelRequest =
  | { readonly kind: 'local'; readonly file: LocalFile }
  /** `isOffline`: they are on the hub, and the hub must not be asked. */
  | { readonly kind: 'files'; readonly files: ModelFiles; readonly isOffline: boolean }
  | {
      readonly kind: 'tag'
      readonly tag: HubTag
      readonly given: ModelSourceObject
      readonly endpoint: URL
      readonly isOffline: boolean
    }

/**
 * Checks what is asked for. A path may be absolute, relative to the working folder (`./m.gguf`), a `file:` URL, or a bare
 * `m.gguf`, which is in `modelsDirectory`.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_INVALID_SOURCE`
 */
export function resolveRequest(
  input: ModelSource,
  modelsDirectory: string,
  env: Environment = process.env,
): ModelRequest {
  const given = asObject(input)
  const path = localPath(given.url, modelsDirectory)
  if (path !== undefined) {
    return { kind: 'local', file: { path, sha256: checkedSha256(given.sha256), bytes: checkedBytes(given.bytes) } }
  }
  const endpoint = hubEndpoint(env)
  const hub = parseHubSource(given.url, endpoint)
  if (hub && 'tag' in hub) {
    checkedSha256(given.sha256)
    checkedBytes(given.bytes)
    return { kind: 'tag', tag: hub, given, endpoint, isOffline: isHubOffline(env) }
  }
  const files = allParts(given, env)
  const isOffline = isHubOffline(env) && new URL(files[0].url).origin === endpoint.origin
  return { kind: 'files', files, isOffline }
}

function localPath(text: string, modelsDirectory: string): string | undefined {
  if (/^file:/i.test(text)) {
    try {
      return fileURLToPath(text)
    } catch {
      throw invalidSource(`Not the URL of a file on this machine: ${redacted(text)}`)
    }
  }
  if (/^(\.{0,2}[/\\]|[a-z]:[/\\])/i.test(text)) return resolve(text)
  return /^[^/\\:]+\.gguf$/i.test(text) ? resolve(modelsDirectory, text) : undefined
}

const splitName = /-(\d{5})-of-(\d{5})\.gguf$/
/** As many as the names can count would be a mistake: the largest models have some dozens. */
const mostParts = 1000

/** The paths of all parts of a split model, whichever of them is named; else the one path. */
export function partsOf(path: string): string[] {
  const [, , parts = ''] = splitName.exec(path) ?? []
  const count = Number(parts)
  if (count < 2 || count > mostParts) return [path]
  return Array.from({ length: count }, (_, index) => path.replace(splitName, suffixOf(index + 1, parts)))
}

function suffixOf(part: number, parts: string): string {
  return `-${String(part).padStart(5, '0')}-of-${parts}.gguf`
}

/** All parts of a split model, whichever of them is named; else the one file. */
export function allParts(given: ModelSourceObject, env: Environment = process.env): ModelFiles {
  const one = resolveSource(given, env)
  const [, part = '', parts = ''] = splitName.exec(new URL(one.url).pathname) ?? []
  const count = Number(parts)
  if (count < 2 || Number(part) < 1 || Number(part) > count) return [one]
  if (count > mostParts) throw invalidSource(`${one.label} would have ${count} parts; ${mostParts} is the limit`)
  if (given.sha256 !== undefined || given.bytes !== undefined) {
    throw invalidSource(
      `${one.label} is one of ${count} parts, so one \`sha256\` or \`bytes\` can't be meant for it; leave them out, the hub tells them of each part`,
    )
  }
  const suffix = (index: number) => suffixOf(index, parts)
  const stem = given.fileName?.replace(splitName, '').replace(/\.gguf$/i, '')
  const nth = (index: number) =>
    resolveSource(
      {
        ...given,
        url: given.url.replace(/-\d{5}-of-\d{5}\.gguf(?=$|[?#])/, suffix(index)),
        ...(stem !== undefined && { fileName: stem + suffix(index) }),
      },
      env,
    )
  return [nth(1), ...Array.from({ length: count - 1 }, (_, index) => nth(index + 2))]
}
