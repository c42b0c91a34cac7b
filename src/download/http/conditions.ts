// On what condition a body is wanted, in the words of RFC 9110.
import { type RemoteIdentity, strengthOf } from './identity.ts'

/** For a part: only of the version that bytes are kept of. `byMatch`: for servers that give no part to an If-Range. */
export function rangeConditions(kept: RemoteIdentity, byMatch: boolean): Record<string, string> {
  const { etag, lastModified } = kept
  switch (strengthOf(kept)) {
    // The hash decides in the end. A validator would only keep the bytes back where nodes of one CDN differ in it.
    case 'sha256':
      return {}
    case 'etag':
      return byMatch ? { 'if-match': etag as string } : { 'if-range': etag as string }
    // 13.1.5: a date may be sent in If-Range only by who has no entity tag at all, a weak tag never.
    case 'date':
      return etag === undefined && !byMatch
        ? { 'if-range': lastModified as string }
        : { 'if-unmodified-since': lastModified as string }
    case 'none':
      return {}
  }
}

/** For the whole file: only if it is another one than is here. */
export function changeConditions(here: RemoteIdentity | undefined): Record<string, string> {
  // 13.1.2 compares weakly, so a weak tag will do.
  if (here?.etag !== undefined) return { 'if-none-match': here.etag }
  return here?.lastModified === undefined || !here.isSettled ? {} : { 'if-modified-since': here.lastModified }
}
