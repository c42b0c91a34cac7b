// What to fetch: turns the caller's words into one URL, one safe file name and the headers for that URL's origin.
import { createHash } from 'node:crypto'
import { validateHeaderName, validateHeaderValue } from 'node:http'
import { checkKnown, namesOf } from '../../mutex/options.ts'
import { displayUrl, invalidSource as invalid, redacted } from '../errors.ts'
import { checkedFileName } from './file-name.ts'
import { decoded, type Environment, hubEndpoint, hubFileName, hubFileUrl, hubToken, parseHubSource } from './hub.ts'

export interface ModelSourceObject {
  /**
   * `https://…` or `http://…`; `hf:user/repo/path/file.gguf[#revision]`; `hf:user/repo:Q4_K_M` for the file that the hub has of that
   * quantization, `hf:user/repo` for the one it recommends; or the path of a file of yours. Of a split model
   * (`…-00001-of-00003.gguf`) any part stands for all.
   */
  readonly url: string
  /** Expected SHA-256 of the whole file, 64 hexadecimal digits. Without it the server's word is all there is. Not for split models. */
  readonly sha256?: string
  /** Expected size of the file in bytes. Not for split models. */
  readonly bytes?: number
  /** Sent to the URL's own origin only, never along a redirect to another. */
  readonly headers?: Readonly<Record<string, string>>
  /** Name of the file in the models folder; default: from the URL. */
  readonly fileName?: string
}

export type ModelSource = string | ModelSourceObject

const SOURCE = namesOf<ModelSourceObject>({ url: true, sha256: true, bytes: true, headers: true, fileName: true })

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

/**
 * Checks the source of one file and says where it leads.
 *
 * `hf:` sources go to `MODEL_ENDPOINT`, else `HF_ENDPOINT`, else https://huggingface.co, and are named as node-llama-cpp
 * names them. The hub's token is sent to that endpoint's origin, also for a plain URL of it; user info in a URL becomes an
 * `authorization` header.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_INVALID_SOURCE`
 */
export function resolveSource(input: ModelSource, env: Environment = process.env): ResolvedSource {
  const given = asObject(input)
  const endpoint = hubEndpoint(env)
  const hub = parseHubSource(given.url, endpoint)
  if (hub && 'tag' in hub) throw invalid(`Only the hub knows which file ${redacted(given.url)} is`)
  const url = parseHttpUrl(hub ? hubFileUrl(hub, endpoint) : given.url)
  const headers = sourceHeaders(given, url, env)
  url.username = ''
  url.password = ''
  url.hash = ''
  const sha256 = checkedSha256(given.sha256)
  const bytes = checkedBytes(given.bytes)
  const named = hub ? hubFileName(hub) : decoded(url.pathname.split('/').at(-1) ?? '')
  return {
    url: url.href,
    label: displayUrl(url),
    key: createHash('sha256').update(url.href).digest('hex'),
    fileName: checkedFileName(given.fileName ?? named),
    headers,
    ...(sha256 !== undefined && { sha256 }),
    ...(bytes !== undefined && { bytes }),
  }
}

export function asObject(input: ModelSource): ModelSourceObject {
  if (typeof input === 'string') return { url: input }
  const given: unknown = input
  if (typeof given !== 'object' || given === null) throw invalid('A model source is a URL, or an object with a `url`')
  checkKnown(given, SOURCE, 'A model source', invalid)
  if (typeof input.url !== 'string') throw invalid('A model source is a URL, or an object with a `url`')
  return input
}

/** What is sent along with a request for `url`: the caller's words before the credentials that are found here. */
export function sourceHeaders(given: ModelSourceObject, url: URL, env: Environment): Record<string, string> {
  return { ...credentials(url, hubEndpoint(env), env), ...checkedHeaders(given.headers) }
}

function parseHttpUrl(text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url
  throw invalid(
    `Not a model source: ${redacted(text)}; give an http(s) URL, hf:user/repo/file.gguf or the path of a file`,
  )
}

function credentials(url: URL, endpoint: URL, env: Environment): Record<string, string> {
  if (url.username !== '' || url.password !== '') {
    const pair = `${decoded(url.username)}:${decoded(url.password)}`
    return { authorization: `Basic ${Buffer.from(pair).toString('base64')}` }
  }
  if (url.origin !== endpoint.origin) return {}
  const token = hubToken(env)
  if (token !== undefined) return checkedHeaders({ authorization: `Bearer ${token}` })
  return {}
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

export function checkedSha256(sha256: string | undefined): string | undefined {
  if (sha256 === undefined) return undefined
  if (typeof sha256 === 'string' && /^[0-9a-f]{64}$/i.test(sha256)) return sha256.toLowerCase()
  throw invalid('`sha256` must be 64 hexadecimal digits')
}

export function checkedBytes(bytes: number | undefined): number | undefined {
  if (bytes === undefined || (Number.isSafeInteger(bytes) && bytes > 0)) return bytes
  throw invalid('`bytes` must be a whole number above 0')
}
