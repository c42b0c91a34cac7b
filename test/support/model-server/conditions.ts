// Conditional requests as RFC 9110, section 13 has them, in the order of 13.2.2.
import type { IncomingHttpHeaders } from 'node:http'
import type { Validators } from './validators.ts'

/** `send`: the request is answered as if it had no condition. `range`: whether its Range counts. */
export type Verdict = { readonly is: 'send'; readonly range: boolean } | { readonly is: 304 | 412 }

/** RFC 9110, 8.8.2.2 asks for one second between Last-Modified and Date, by one clock. */
const strongAfterMs = 1000

export function judge(method: string, headers: IncomingHttpHeaders, now: Validators): Verdict {
  const ifMatch = headers['if-match']
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, now.etag, isSameStrong)) return { is: 412 }
  } else if (isLater(now.lastModified, headers['if-unmodified-since'])) return { is: 412 }
  const isRead = method === 'GET' || method === 'HEAD'
  const ifNoneMatch = headers['if-none-match']
  if (ifNoneMatch !== undefined) {
    if (matches(ifNoneMatch, now.etag, isSameWeak)) return { is: isRead ? 304 : 412 }
  } else if (isRead && isNotLater(now.lastModified, headers['if-modified-since'])) return { is: 304 }
  return { is: 'send', range: method === 'GET' && rangeCounts(headers['if-range'], now) }
}

/** If-Range, 13.1.5: a strong ETag, or exactly the Last-Modified if that is a strong one. Anything else is false. */
function rangeCounts(ifRange: string | string[] | undefined, now: Validators): boolean {
  if (ifRange === undefined) return true
  const text = String(ifRange)
  if (/^(W\/)?"/.test(text)) return now.etag !== undefined && isSameStrong(text, now.etag)
  const { lastModified, date } = now
  if (lastModified === undefined || date === undefined) return false
  const isStrong = date.getTime() - lastModified.getTime() >= strongAfterMs
  return isStrong && dateOf(text) === lastModified.getTime()
}

function matches(list: string, etag: string | undefined, isSame: (a: string, b: string) => boolean): boolean {
  if (list.trim() === '*') return true
  return etag !== undefined && etagsIn(list).some((one) => isSame(one, etag))
}

/** A comma may be part of an ETag. */
function etagsIn(list: string): string[] {
  return list.match(/(?:W\/)?"[^"]*"/g) ?? []
}

function isSameStrong(a: string, b: string): boolean {
  return a === b && !a.startsWith('W/')
}

function isSameWeak(a: string, b: string): boolean {
  return a.replace(/^W\//, '') === b.replace(/^W\//, '')
}

/** `undefined` for what is no date: such a field is ignored (13.1.3, 13.1.4). */
function dateOf(text: string | undefined): number | undefined {
  const at = text === undefined || !/^[A-Z][a-z]{2}, .* GMT$/.test(text) ? Number.NaN : Date.parse(text)
  return Number.isNaN(at) ? undefined : at
}

function isLater(lastModified: Date | undefined, since: string | undefined): boolean {
  const at = dateOf(since)
  return lastModified !== undefined && at !== undefined && lastModified.getTime() > at
}

function isNotLater(lastModified: Date | undefined, since: string | undefined): boolean {
  const at = dateOf(since)
  return lastModified !== undefined && at !== undefined && lastModified.getTime() <= at
}
