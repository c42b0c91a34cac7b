// The caller's words, read once: what is asked for, and what is expected of it. What it leads to is in resolve.ts.
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { checkKnown, namesOf } from '../../mutex/options.ts'
import { invalidSource as invalid, redacted } from '../errors.ts'
import type { Credential } from './credentials.ts'
import { checkedFileName } from './file-name.ts'
import { type HubFile, type HubLink, type HubTag, parseHubLink, parseHubWords } from './hub.ts'
import { isPath } from './local-path.ts'

export interface ModelSourceObject {
  /**
   * - `https://…` or `http://…`
   * - `hf:user/repo/path/file.gguf[#revision]`, or the address of that file on the hub
   * - `hf:user/repo:Q4_K_M` for the file that the hub has of that quantization, `hf:user/repo` for the one it
   *   recommends
   * - the path of a file of yours: absolute, `./m.gguf`, `~/m.gguf`, `file:///…`, or `m.gguf` for one in the models
   *   folder
   *
   * Of a split model (`…-00001-of-00003.gguf`) any part stands for all; of a file that was cut by bytes
   * (`….gguf.part1of2`) any piece.
   */
  readonly url: string
  /**
   * Expected SHA-256 of the whole file: 64 hexadecimal digits, also with `sha256:` before them. Without it the server's
   * word is all there is. Not for split models.
   */
  readonly sha256?: string | undefined
  /** Expected size of the file in bytes. Not for split models. */
  readonly bytes?: number | undefined
  /** Sent to the URL's own origin only, never along a redirect to another. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Name of the file in the models folder; default: from the URL. */
  readonly fileName?: string | undefined
}

export type ModelSource = string | ModelSourceObject

const SOURCE = namesOf<ModelSourceObject>({ url: true, sha256: true, bytes: true, headers: true, fileName: true })

/** One file to download, with nothing left open. */
export interface ResolvedSource {
  /** The whole URL, query included: a secret. Show `label` instead. Of a file in pieces the first one's. */
  readonly url: string
  /** Origin and path: what messages, events and manifests may say. */
  readonly label: string
  /**
   * Tells sources apart on disk without storing their secrets: SHA-256 of origin, path and query, but without the
   * parameters that sign a request. For the hub of the words and the revision, not of the host.
   */
  readonly key: string
  /** As `key`, of origin and path only. Equal for two sources that may be one: their bytes must prove it. */
  readonly placeKey: string
  readonly fileName: string
  /** The caller gave `fileName`, so no other name will do. */
  readonly isNamed: boolean
  /** The first 8 digits of `key`; for all parts of a split model those of the first part. */
  readonly suffix: string
  /** `<stem>.<suffix>.gguf`: the name where another source has `fileName`. */
  readonly distinctName: string
  /**
   * For a web address of a file on the hub: the name and the `source` that other programs and older manifests know it
   * by.
   */
  readonly plainName?: string
  readonly plainLabel?: string
  /** Lower-case names; may hold credentials; for `url`'s origin only. `credential` is among them. */
  readonly headers: Readonly<Record<string, string>>
  /** What `headers.authorization` is, if there is one. */
  readonly credential?: Credential
  readonly sha256?: string | undefined
  readonly bytes?: number
  /** The file comes in these pieces, to be joined in this order. `sha256` and `bytes` are those of the whole. */
  readonly pieces?: readonly [ResolvedSource, ...ResolvedSource[]]
}

/** What the caller has said. */
export interface ParsedSource {
  readonly place: Place
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly fileName: string | undefined
  readonly sha256: string | undefined
  readonly bytes: number | undefined
}

type Place = FilePlace | TagPlace | PathPlace

/** A file that can be downloaded. */
export type FilePlace =
  | { readonly kind: 'web'; readonly url: URL }
  | { readonly kind: 'hub'; readonly file: HubFile; readonly link?: HubLink }

/** A file that only the hub can name. */
export interface TagPlace {
  readonly kind: 'tag'
  readonly tag: HubTag
  readonly link?: HubLink
}

/** A file of this machine. `isSure`: it can't be anything else, whether it exists or not. */
export interface PathPlace {
  readonly kind: 'path'
  readonly text: string
  readonly isSure: boolean
}

/**
 * Reads a source. `hubs`: all addresses that a link to the hub may begin with.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_INVALID_SOURCE`
 */
export function parseSource(input: ModelSource, hubs: readonly URL[]): ParsedSource {
  const given = asObject(input)
  return {
    place: placeOf(given.url, hubs),
    headers: checkedHeaders(given.headers),
    fileName: given.fileName === undefined ? undefined : checkedFileName(given.fileName),
    sha256: checkedSha256(given.sha256),
    bytes: checkedBytes(given.bytes),
  }
}

function asObject(input: ModelSource): ModelSourceObject {
  if (typeof input === 'string') return { url: input }
  const given: unknown = input
  if (typeof given !== 'object' || given === null) throw invalid('A model source is a URL, or an object with a `url`')
  checkKnown(given, SOURCE, 'A model source', invalid)
  if (typeof input.url !== 'string') throw invalid('A model source is a URL, or an object with a `url`')
  return input
}

function placeOf(text: string, hubs: readonly URL[]): Place {
  if (isPath(text)) return { kind: 'path', text, isSure: true }
  const words = parseHubWords(text)
  if (words) return hubPlace(words)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' || url?.protocol === 'https:') {
    const onHub = parseHubLink(url, hubs)
    return onHub ? hubPlace(onHub.found, onHub.link) : { kind: 'web', url }
  }
  if (url === undefined && text.trim() !== '') return { kind: 'path', text, isSure: false }
  throw notASource(text)
}

function hubPlace(found: HubFile | HubTag, link?: HubLink): Place {
  const place = 'tag' in found ? ({ kind: 'tag', tag: found } as const) : ({ kind: 'hub', file: found } as const)
  return { ...place, ...(link && { link }) }
}

/** `hint`: what may have been meant. */
export function notASource(text: string, hint = ''): Error {
  return invalid(
    `Not a model source: ${redacted(text)}; give an http(s) URL, hf:user/repo/file.gguf or the path of a file${hint}`,
  )
}

function checkedHeaders(headers: unknown): Readonly<Record<string, string>> {
  if (headers === undefined) return {}
  if (typeof headers !== 'object' || headers === null) throw invalid('`headers` must be an object of names and values')
  const checked: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
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

function checkedSha256(sha256: unknown): string | undefined {
  if (sha256 === undefined) return undefined
  const digits = typeof sha256 === 'string' ? /^(?:sha256:)?([0-9a-f]{64})$/i.exec(sha256)?.[1] : undefined
  if (digits !== undefined) return digits.toLowerCase()
  throw invalid('`sha256` must be 64 hexadecimal digits')
}

function checkedBytes(bytes: number | undefined): number | undefined {
  if (bytes === undefined || (Number.isSafeInteger(bytes) && bytes > 0)) return bytes
  throw invalid('`bytes` must be a whole number above 0')
}
