// Faults that real servers have, ready to be given to `ModelServer.fault`.
import type { Fault } from './fault.ts'

/** Status 503 with Retry-After, for these requests of the path alone, counted from 1. */
export function busy(requests: readonly number[], retryAfter?: string): Fault {
  return {
    kind: 'status',
    status: 503,
    headers: retryAfter === undefined ? {} : { 'retry-after': retryAfter },
    only: (_, ordinal) => requests.includes(ordinal),
  }
}

/**
 * The hub's rate limit until the window ends: 429 without Retry-After, but with RateLimit and the seconds left.
 * https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
 */
export function rateLimited(forMs: number, policy = 'resolvers'): Fault {
  const until = performance.now() + forMs
  const secondsLeft = () => Math.max(0, Math.ceil((until - performance.now()) / 1000))
  return {
    kind: 'status',
    status: 429,
    headers: () => ({
      ratelimit: `"${policy}";r=0;t=${secondsLeft()}`,
      'ratelimit-policy': `"fixed window";"${policy}";q=3000;w=300`,
    }),
    only: () => performance.now() < until,
  }
}

/** A refusal in the hub's words: X-Error-Code (`GatedRepo`) and X-Error-Message. */
export function hubRefusal(status: number, code: string, message: string): Fault {
  return { kind: 'status', status, headers: { 'x-error-code': code, 'x-error-message': message } }
}

/** The whole file by HTTP/1.0, without a length: it ends when the connection does. */
export function http10(): Fault {
  const head = 'HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n'
  return { kind: 'raw', head: () => head, rest: 'body' }
}

/** From an offset of the file on, one byte each `everyMs`. */
export function trickle(everyMs: number, fromByte = 0): Fault {
  return { kind: 'pieces', bytes: 1, everyMs, fromByte }
}
