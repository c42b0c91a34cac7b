// What can go wrong with a path of the model server. Ready-made faults are in usual-faults.ts.
import type { Part, ReceivedRequest } from './served-file.ts'

/**
 * What goes wrong with a path. `times` limits it to the next so many requests; default: until it is taken back. Requests
 * before them, `after` many, are answered well. `only`: other requests are left to the faults that follow, or answered well;
 * `ordinal` counts the requests for the path from 1, since the faults were set.
 */
export type Fault = {
  readonly times?: number
  readonly after?: number
  readonly only?: (request: ReceivedRequest, ordinal: number) => boolean
} & (
  | { readonly kind: 'status'; readonly status: number; readonly headers?: Headers | (() => Headers) }
  /** A login page with status 200. */
  | { readonly kind: 'html' }
  /** Promises everything, but cuts the connection when this offset of the file is reached; `reset`: by RST. */
  | { readonly kind: 'cut'; readonly atByte: number; readonly reset?: boolean }
  /** Cuts every connection after so many bytes of its own. */
  | { readonly kind: 'cut-each'; readonly bytes: number }
  /** Sends nothing more once this offset of the file is reached, and keeps the connection. */
  | { readonly kind: 'stall'; readonly atByte: number }
  /** Never answers. */
  | { readonly kind: 'silent' }
  /** Answers 200 with the whole file to a request for a range. */
  | { readonly kind: 'ignore-range' }
  /** Answers 206 also where If-Range says that the file is another by now. */
  | { readonly kind: 'ignore-if-range' }
  /** Answers 206, with a range that was not asked for. */
  | { readonly kind: 'wrong-range' }
  /** Answers a request for a range with at most so many bytes of it, as a server may. */
  | { readonly kind: 'short-range'; readonly bytes: number }
  /** Answers 206 without Content-Range. */
  | { readonly kind: 'untold-range' }
  /** Claims a compressed body. */
  | { readonly kind: 'gzip' }
  /** Promises more bytes than it has. */
  | { readonly kind: 'promise'; readonly bytes: number }
  /** No Content-Length: chunked, or until the connection closes. `cutAtByte`: the connection is cut there. */
  | { readonly kind: 'no-length'; readonly chunked: boolean; readonly cutAtByte?: number }
  /** What is not ASCII in `to` goes out as raw UTF-8 bytes, as careless servers send it. */
  | { readonly kind: 'redirect'; readonly to: string; readonly status?: number }
  /** A compressed body that nobody asked for. */
  | { readonly kind: 'compressed'; readonly encoding: 'gzip' | 'deflate' }
  /** The file's answer with other headers (`null`: without one) or another status. */
  | {
      readonly kind: 'headers'
      readonly status?: number
      readonly headers: (part: Part) => Readonly<Record<string, string | null>>
    }
  /** Answers a request for a range with another one, and tells so. */
  | { readonly kind: 'other-range'; readonly of: (part: Part) => { readonly start: number; readonly end: number } }
  /** Tells the range that was asked for, but sends another file's bytes. */
  | { readonly kind: 'other-bytes'; readonly file: string }
  /** Answers a request for a range with a multipart of that one range. */
  | { readonly kind: 'multipart' }
  /** Sends pieces of so many bytes, one each `everyMs`. Default: as fast as it can. `fromByte`: what lies before goes at full speed. */
  | { readonly kind: 'pieces'; readonly bytes: number; readonly everyMs?: number; readonly fromByte?: number }
  /** The file, and then zeros without end: chunked, or until the connection closes. */
  | { readonly kind: 'endless-body'; readonly chunked: boolean }
  /** Informational answers without end, one each `everyMs`, and never the answer proper. `status`: default `103`. */
  | { readonly kind: 'endless-informational'; readonly everyMs: number; readonly status?: number }
  /** A head without end, one byte each `everyMs`. */
  | { readonly kind: 'endless-head'; readonly everyMs: number }
  /** Raw text before the answer. */
  | { readonly kind: 'prelude'; readonly text: string }
  /** Raw text in place of the answer's head, for the whole file. Whatever follows, the connection is closed after it. */
  | { readonly kind: 'raw'; readonly head: (part: Part) => string; readonly rest: 'body' | 'cut' | 'stall' }
)

type Headers = Readonly<Record<string, string>>

/** The offset of the file at which a body ends before its time. */
export function faultOffset(fault: Fault | undefined, start: number): number {
  if (fault?.kind === 'cut' || fault?.kind === 'stall') return fault.atByte
  if (fault?.kind === 'no-length') return fault.cutAtByte ?? Number.POSITIVE_INFINITY
  return fault?.kind === 'cut-each' ? start + fault.bytes : Number.POSITIVE_INFINITY
}
