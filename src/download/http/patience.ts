// How long a download may go on without getting anywhere: over all its tries, and while one of them stands still.
import { setMaxListeners } from 'node:events'
import { AwakeTime } from './awake-time.ts'
import { worthwhileBytes } from './retry.ts'

const tickMs = 500

export interface PatienceOptions {
  readonly limitMs: number
  /** How much of the limit is left now. */
  readonly firstMs: number
  readonly signal: AbortSignal | undefined
  /** Called twice a second. What it throws ends the download. */
  readonly onTick: () => void
}

export class TransferPatience implements Disposable {
  readonly #limitMs: number
  readonly #onTick: () => void
  readonly #ending = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly signal: AbortSignal
  #leftMs: number
  #bytes = 0
  readonly #time = new AwakeTime()
  #failure: { readonly error: unknown } | undefined

  constructor({ limitMs, firstMs, signal, onTick }: PatienceOptions) {
    this.#limitMs = limitMs
    this.#onTick = onTick
    this.#leftMs = firstMs
    this.signal = signal ? AbortSignal.any([signal, this.#ending.signal]) : this.#ending.signal
    setMaxListeners(0, this.signal)
    this.#timer = setInterval(() => this.#tick(), tickMs)
  }

  get limitMs(): number {
    return this.#limitMs
  }

  get isOver(): boolean {
    return this.#leftMs <= 0
  }

  throwIfFailed(): void {
    if (this.#failure) throw this.#failure.error
  }

  /** Whether it will be over before so much time has passed. */
  endsWithin(ms: number): boolean {
    return this.#leftMs <= ms
  }

  /** New bytes of the file. */
  renew(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < worthwhileBytes) return
    this.#bytes = 0
    this.#leftMs = this.#limitMs
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  #tick(): void {
    this.#leftMs -= this.#time.passed()
    if (this.isOver) this.#ending.abort(new Error('no progress'))
    try {
      this.#onTick()
    } catch (error) {
      this.#failure = { error }
      this.#ending.abort(error)
    }
  }
}
