// What a download needs of a dispatcher of any undici. The types are our own, so that our declarations name no undici:
// a user may have another version of it, or only the one inside Node.
import { invalidArgument } from '../../mutex/options.ts'

/**
 * Sends the requests: an `Agent`, `Pool`, `Client`, `ProxyAgent`, `MockAgent` or any other dispatcher of undici 6, 7 or
 * 8, composed with interceptors or not, or the one inside Node
 * (https://github.com/nodejs/undici/blob/main/docs/docs/api/Dispatcher.md).
 */
export interface RequestDispatcher {
  dispatch(options: DispatchRequest, handler: DispatchHandler): boolean
}

interface DispatchRequest {
  readonly origin: string
  readonly path: string
  readonly method: 'GET'
  readonly headers: Record<string, string>
  readonly headersTimeout: number
  readonly bodyTimeout: number
}

/** Of one request that is under way. */
export interface DispatchController {
  abort(reason: Error): void
  pause(): void
  resume(): void
}

/** By lower-case name. */
export type AnswerHeaders = Record<string, string | string[] | undefined>

/** Is told of one request, in the words of undici 7 and later. A request that fails at once may have no controller. */
export interface ResponseHandler {
  onRequestStart(controller: DispatchController, context: unknown): void
  onResponseStart(controller: DispatchController, status: number, headers: AnswerHeaders): void
  onResponseData(controller: DispatchController, chunk: Buffer): void
  onResponseEnd(controller: DispatchController, trailers: AnswerHeaders): void
  onResponseError(controller: DispatchController | null, error: Error): void
}

/** The words of undici 6, which undici 7 knows, too. `false` pauses until `resume` is called. */
interface OldResponseHandler {
  onConnect(abort: (reason?: Error) => void): void
  onHeaders(status: number, rawHeaders: readonly RawHeader[], resume: () => void): boolean
  onData(chunk: Buffer): boolean
  onComplete(rawTrailers: unknown): void
  onError(error: Error): void
}

/** Names and values in turn. Where a name has several values, some dispatchers put a list of them there. */
type RawHeader = Buffer | string | readonly (Buffer | string)[]

export interface DispatchHandler extends ResponseHandler, OldResponseHandler {}

/**
 * The handler for a dispatcher of any version. undici 7 and 8 look for `onRequestStart` and use the new names; undici 6
 * knows the old ones only. An interceptor may copy it (`{ ...handler, … }`), so each name is a property of the object
 * itself.
 */
export function forAnyVersion(handler: ResponseHandler): DispatchHandler {
  let old = new OldController(() => {})
  return {
    onRequestStart: (controller, context) => handler.onRequestStart(controller, context),
    onResponseStart: (controller, status, headers) => handler.onResponseStart(controller, status, headers),
    onResponseData: (controller, chunk) => handler.onResponseData(controller, chunk),
    onResponseEnd: (controller, trailers) => handler.onResponseEnd(controller, trailers),
    onResponseError: (controller, error) => handler.onResponseError(controller, error),
    // It is called again when the request is sent again, over another connection.
    onConnect: (abort) => {
      old = new OldController(abort)
      handler.onRequestStart(old, undefined)
    },
    onHeaders: (status, rawHeaders, resume) => {
      old.onResume = resume
      handler.onResponseStart(old, status, headersOf(rawHeaders))
      return !old.isPaused
    },
    onData: (chunk) => {
      handler.onResponseData(old, chunk)
      return !old.isPaused
    },
    onComplete: () => handler.onResponseEnd(old, {}),
    onError: (error) => handler.onResponseError(old, error),
  }
}

class OldController implements DispatchController {
  readonly abort: (reason: Error) => void
  onResume: (() => void) | undefined
  isPaused = false

  constructor(abort: (reason: Error) => void) {
    this.abort = abort
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    this.onResume?.()
  }
}

function headersOf(raw: readonly RawHeader[]): AnswerHeaders {
  const headers: Record<string, string[]> = Object.create(null)
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = String(textsOf(raw[at])[0]).toLowerCase()
    headers[name] = [...(headers[name] ?? []), ...textsOf(raw[at + 1])]
  }
  return headers
}

/** Bytes of a header are characters: https://www.rfc-editor.org/rfc/rfc9110#section-5.5 */
function textsOf(header: RawHeader = ''): string[] {
  const all = typeof header === 'string' || Buffer.isBuffer(header) ? [header] : header
  return all.map((text) => (typeof text === 'string' ? text : text.toString('latin1')))
}

/** @throws `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`: `given` is no dispatcher */
export function checkDispatcher(given: unknown): void {
  const dispatcher = given as Partial<RequestDispatcher> | null
  if (typeof dispatcher === 'object' && typeof dispatcher?.dispatch === 'function') return
  const what = 'a Dispatcher of undici 6, 7 or 8, such as an Agent or a ProxyAgent (not an Agent of node:http)'
  throw invalidArgument(`The option "dispatcher" must be ${what}`)
}
