// One HTTP request and its answer, straight on undici's dispatcher. Not by undici's `request`, for three reasons:
// - Its body stream drops up to 64 KiB that have come in when the connection breaks. Here they are handed out first, so
//   that a retry goes on behind them.
// - It looks at an abort signal only once it is connected; an unreachable server would hold an abort up for 30 s.
// - It pauses its parser as soon as 64 KiB wait. If the server then closes a connection that it does not keep alive,
//   undici 7 throws in a socket event, where nobody can catch it: https://github.com/nodejs/undici/issues/5360 (fixed in
//   undici 8, which Node 20 cannot run). Here it pauses only when the disk is far behind, and never on the last chunk.
import { Blocks, blockBytes } from './blocks.ts'
import {
  type AnswerHeaders,
  type DispatchController,
  forAnyVersion,
  type RequestDispatcher,
  type ResponseHandler,
} from './dispatcher.ts'
import { undici } from './undici.ts'

export interface Answer {
  readonly status: number
  header(name: string): string | undefined
  /** The body, once, each time what has come in. What came before an error is handed out before it is thrown. */
  readonly body: AsyncIterable<readonly Buffer[]>
  /** Of what `body` handed out: nobody reads it any more. See `Blocks`. */
  giveBack(chunks: readonly Buffer[]): void
  /** Ends the exchange, if the rest of the body is not wanted. */
  discard(): void
}

export interface TimeLimits {
  /** How long a server may take for the head of its answer, in milliseconds. */
  readonly headersTimeoutMs: number
  /** How long it may send nothing within the body. */
  readonly bodyTimeoutMs: number
}

export interface ExchangeOptions {
  readonly headers: Record<string, string>
  readonly dispatcher: RequestDispatcher
  readonly limits: TimeLimits
  readonly signal: AbortSignal | undefined
}

const maxWaitingBytes = 4 * 1024 * 1024
/** The body is handed out by the block, or by what came in so many milliseconds. To write a block costs little more than to write 16 KiB. */
const handedOutMs = 10

/** Sends a GET. Rejects with what the connection throws, or at once with the signal's reason. */
export function exchange(url: URL, options: ExchangeOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { headers, dispatcher, limits, signal } = options
    const handler = new AnswerHandler(resolve, reject, limits.headersTimeoutMs, signal)
    // The handler keeps the limit for the head itself: undici's begins anew with each 1xx answer.
    const timeouts = { headersTimeout: 0, bodyTimeout: limits.bodyTimeoutMs }
    const path = url.pathname + url.search
    try {
      dispatcher.dispatch({ origin: url.origin, path, method: 'GET', headers, ...timeouts }, forAnyVersion(handler))
    } catch (error) {
      handler.onResponseError(null, error)
    }
  })
}

class AnswerHandler implements ResponseHandler, Answer {
  status = 0
  readonly body: AsyncIterable<readonly Buffer[]>
  readonly #onAnswer: (answer: Answer) => void
  readonly #onFailure: (error: unknown) => void
  readonly #headersTimeoutMs: number
  readonly #signal: AbortSignal | undefined
  #headTimer: NodeJS.Timeout | undefined
  #headers: AnswerHeaders = {}
  #controller: DispatchController | undefined
  readonly #blocks = new Blocks()
  /** Bytes of the body still to come, where the server told its length. */
  #missing = Number.POSITIVE_INFINITY
  #end: { readonly error?: unknown } | undefined
  #wake: (() => void) | undefined
  #waking: NodeJS.Timeout | undefined

  constructor(
    onAnswer: (answer: Answer) => void,
    onFailure: (error: unknown) => void,
    headersTimeoutMs: number,
    signal: AbortSignal | undefined,
  ) {
    this.#onAnswer = onAnswer
    this.#onFailure = onFailure
    this.#headersTimeoutMs = headersTimeoutMs
    this.#signal = signal
    this.body = this.#chunks()
    if (signal?.aborted) this.#onAbort()
    else signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  header(name: string): string | undefined {
    const value = this.#headers[name]
    return Array.isArray(value) ? value[0] : value
  }

  giveBack(chunks: readonly Buffer[]): void {
    this.#blocks.giveBack(chunks)
  }

  discard(): void {
    this.#finish({ error: new Error('the rest of the answer was not wanted') })
  }

  onRequestStart(controller: DispatchController): void {
    this.#controller = controller
    if (this.#end) {
      this.#cutOff()
      return
    }
    const late = () => this.#finish({ error: new undici.errors.HeadersTimeoutError() })
    if (this.#headersTimeoutMs > 0) this.#headTimer ??= setTimeout(late, this.#headersTimeoutMs)
  }

  onResponseStart(_: unknown, status: number, headers: AnswerHeaders): void {
    // 1xx: the answer proper follows.
    if (status < 200) return
    // Undici sends a request again, of which it has handed out a part, when a pipelined one on its connection was called off. What
    // comes now is no continuation of that part.
    if (this.status !== 0) {
      this.#finish({ error: new Error('the request was sent again after its answer had begun') })
      return
    }
    clearTimeout(this.#headTimer)
    this.status = status
    this.#headers = headers
    const length = this.header('content-length')
    if (length !== undefined && /^\d+$/.test(length)) this.#missing = Number(length)
    this.#onAnswer(this)
  }

  onResponseData(controller: DispatchController, chunk: Buffer): void {
    // An empty one tells some ends: to pause there would be to pause behind the end.
    if (this.#end || chunk.length === 0) return
    this.#blocks.add(chunk)
    this.#missing -= chunk.length
    if (this.#blocks.bytes > maxWaitingBytes && this.#missing > 0) controller.pause()
    if (this.#blocks.bytes >= blockBytes) this.#wake?.()
    else this.#waking ??= setTimeout(this.#wakeSoon, handedOutMs)
  }

  onResponseEnd(): void {
    this.#finish({})
  }

  onResponseError(_: unknown, error: unknown): void {
    this.#finish({ error })
  }

  readonly #wakeSoon = (): void => {
    this.#waking = undefined
    this.#wake?.()
  }

  readonly #onAbort = (): void => {
    this.#blocks.take()
    this.#finish({ error: this.#signal?.reason })
  }

  /** However it ends; the first end counts. */
  #finish(end: { readonly error?: unknown }): void {
    if (this.#end) return
    this.#end = end
    clearTimeout(this.#headTimer)
    clearTimeout(this.#waking)
    this.#signal?.removeEventListener('abort', this.#onAbort)
    if ('error' in end) {
      this.#onFailure(end.error)
      this.#cutOff()
    }
    this.#wake?.()
  }

  #cutOff(): void {
    this.#controller?.abort(new Error('the exchange is over'))
  }

  async *#chunks(): AsyncGenerator<readonly Buffer[]> {
    try {
      for (;;) {
        if (this.#blocks.bytes > 0) {
          const chunks = this.#blocks.take()
          this.#controller?.resume()
          yield chunks
        } else if (this.#end) {
          if ('error' in this.#end) throw this.#end.error
          return
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
        }
      }
    } finally {
      this.discard()
    }
  }
}
