// What makes two sources the same one: where the file is, not how this request for it is signed.
import { createHash } from 'node:crypto'
import { type HubFile, hubFileWords } from './hub.ts'

/** Tells sources apart on disk without storing their secrets. Both are SHA-256, in hexadecimal digits. */
export interface SourceIdentity {
  /** Of the origin, the path and the query without its signature. */
  readonly key: string
  /** Of the origin and the path only. For the hub the same as `key`. */
  readonly placeKey: string
}

/** By the words and not by the host: every host of the hub has the same repositories. */
export function hubIdentity(file: HubFile): SourceIdentity {
  const key = sha256(hubFileWords(file))
  return { key, placeKey: key }
}

export function webIdentity(url: URL): SourceIdentity {
  const place = url.origin + url.pathname
  const query = identifyingQuery(url.searchParams)
  return { key: sha256(query === '' ? place : `${place}?${query}`), placeKey: sha256(place) }
}

/** All pieces together are another file than the first one of them. */
export function joinedIdentity({ key, placeKey }: SourceIdentity): SourceIdentity {
  return { key: sha256(`joined ${key}`), placeKey: sha256(`joined ${placeKey}`) }
}

// Which parameters sign a request. The short names may mean anything elsewhere, so they count beside the signature
// only. S3 and Google: https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html,
// https://cloud.google.com/storage/docs/authentication/canonical-requests
const signing = /^x-(amz|goog)-/i
// CloudFront, and the older signatures of S3 and Google:
// https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html
const besideSignature = new Set(['Signature', 'Expires', 'Key-Pair-Id', 'Policy', 'AWSAccessKeyId', 'GoogleAccessId'])
// Azure, where case does not count: https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
const besideSig = new Set(
  'sig se sp sv sr st ss srt si sip spr skoid sktid skt ske sks skv saoid suoid scid ses sdd'.split(' '),
)

function identifyingQuery(given: URLSearchParams): string {
  const names = [...given.keys()]
  const isSigned = names.includes('Signature')
  const isSas = names.some((name) => name.toLowerCase() === 'sig')
  const isSignature = (name: string, value: string) =>
    signing.test(name) ||
    (isSigned && besideSignature.has(name)) ||
    (isSas && besideSig.has(name.toLowerCase())) ||
    // How browsers are to show it: https://huggingface.co/docs/huggingface_hub/guides/download
    (name === 'download' && /^(true|false|1|0|)$/i.test(value))
  const identifying = new URLSearchParams([...given].filter(([name, value]) => !isSignature(name, value)))
  identifying.sort()
  return identifying.toString()
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
