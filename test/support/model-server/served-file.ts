// What the model server serves under a path, and how well it keeps to the rules of HTTP there.
import type { IncomingHttpHeaders } from 'node:http'
import type { Signer } from './signer.ts'

/** `answer` counts the answers of a path from 1, as the nodes of a CDN that take turns. */
export type ByAnswer<T> = T | ((answer: number) => T)

export interface ServedFile {
  /** The file on disk. */
  readonly file: string
  /** Default: a strong ETag made from the file's bytes. Give `W/"…"` for a weak one, `null` for none, `etagPerNode` for many. */
  readonly etag?: ByAnswer<string | null>
  /** Default: no Last-Modified. */
  readonly lastModified?: ByAnswer<Date>
  /** The answers' Date. Default: now. `null`: none. A Last-Modified is strong only when Date is at least 1 s later. */
  readonly date?: Date | null
  /** Added to every answer for this path, redirects included: `x-linked-etag` and the like. */
  readonly headers?: Readonly<Record<string, string>>
  /** Close the connection after every answer, and announce it. */
  readonly close?: boolean
  /** `refused`: HEAD is answered 405. Default: `answered`. */
  readonly head?: 'answered' | 'refused'
  /**
   * `whole`: a request with If-Range gets the whole file, even if the condition holds. A status: such a request is refused with it.
   * Default: `honoured`.
   */
  readonly ifRange?: 'honoured' | 'whole' | { readonly refusedWith: number }
  /** `ignored`: the server knows no conditional requests but If-Range. Default: `honoured`. */
  readonly conditions?: 'honoured' | 'ignored'
  /** The answer's head comes so late. Default: `0`. */
  readonly firstByteAfterMs?: number
  /** Only a URL that this signer signed is answered. */
  readonly signed?: Signer
}

/** A strong ETag that differs from answer to answer, while the bytes do not. */
export const etagPerNode = (answer: number): string => `"node-${answer}"`

export function byAnswer<T extends string | Date | null>(value: ByAnswer<T>, answer: number): T {
  return typeof value === 'function' ? value(answer) : value
}

/** The part of a file that an answer carries. `isRange`: it was asked for by a range that is honoured. */
export interface Part {
  readonly start: number
  readonly end: number
  readonly size: number
  readonly isRange: boolean
}

export interface ReceivedRequest {
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** Counts the server's connections from 1. */
  readonly connection: number
}
