// What tells one version of a remote file from another, and how sure that is.
export interface RemoteIdentity {
  /** Size of the whole file. */
  readonly bytes?: number
  /** As the server sent it: `"…"` is strong, `W/"…"` weak. */
  readonly etag?: string
  readonly lastModified?: string
  /**
   * The answer was dated 60 s after `lastModified` or later, so that the date is a strong validator: the file can't have
   * changed twice in that second (RFC 9110, 8.8.2.2).
   */
  readonly isSettled?: boolean
  /** Of the whole file: from the caller, or by the hub's word. */
  readonly sha256?: string
}

/**
 * - `sha256`: the bytes are checked in the end, so nothing else has to be compared.
 * - `etag`: a strong ETag, and the size where it is known.
 * - `date`: Last-Modified and the size. Good enough to go on with a download, not to put a file together from several
 *   connections.
 * - `none`: of two answers nobody can tell whether they are of the same file.
 */
export type IdentityStrength = 'sha256' | 'etag' | 'date' | 'none'

export function strengthOf({ sha256, etag, bytes, lastModified, isSettled }: RemoteIdentity): IdentityStrength {
  if (sha256 !== undefined) return 'sha256'
  if (isStrong(etag)) return 'etag'
  return bytes !== undefined && lastModified !== undefined && isSettled === true ? 'date' : 'none'
}

/** Whether the bytes of an answer belong to the version that bytes are kept of. */
export function isSameVersion(kept: RemoteIdentity, answer: RemoteIdentity): boolean {
  if (differ(kept.bytes, answer.bytes) || differ(kept.sha256, answer.sha256)) return false
  if (kept.sha256 !== undefined && answer.sha256 !== undefined) return true
  if (isStrong(kept.etag) || isStrong(answer.etag)) return kept.etag === answer.etag
  if (kept.bytes === undefined || answer.bytes === undefined) return false
  // RFC 9110, 8.8.3.2: compared weakly.
  if (kept.etag?.replace(/^W\//, '') !== answer.etag?.replace(/^W\//, '')) return false
  return strengthOf(kept) === 'date' && kept.lastModified === answer.lastModified
}

export function isStrong(etag: string | undefined): boolean {
  return etag?.startsWith('"') === true
}

function differ<T>(a: T | undefined, b: T | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b
}
