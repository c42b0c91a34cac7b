// Waiting for a mutex for as long as its owner makes progress. The kernel keeps this waiter's place in the queue all the
// while: one acquire, never a retry.
import type { MutexState } from '../../mutex/mutex-core.ts'
import type { MutexLock } from '../../mutex/mutex-lock.ts'
import type { OwnerInfo } from '../../mutex/owner-info.ts'
import { notify } from '../../mutex/telemetry.ts'
import type { Patience } from './patience.ts'

/** What is waited for. */
export interface PatientMutex extends Disposable {
  readonly name: string
  tryAcquire(options: { readonly purpose: string }): PatientLock | null
  acquire(options: {
    readonly purpose: string
    readonly signal?: AbortSignal
    readonly onWait?: (owner: OwnerInfo | undefined) => void
  }): Promise<PatientLock>
  query(): MutexState
}

export type PatientLock = Pick<MutexLock, 'abandoned' | 'waitedMs' | 'report' | 'release'>

export interface PatientWait {
  readonly purpose: string
  readonly signal?: AbortSignal | undefined
  /** Makes the error to throw when the limit has run out. */
  readonly timeoutError: (state: MutexState) => Error
  /** Called once with the owner's record, when the wait begins. What it throws ends the wait. */
  readonly onWait?: ((owner: OwnerInfo | undefined) => void) | undefined
  /** Called with the owner's record when the wait begins and then ten times a second. What it throws ends the wait. */
  readonly onLook?: ((owner: OwnerInfo | undefined) => void) | undefined
}

/** How often `onLook` is called. */
const LOOK_INTERVAL_MS = 100
/** Without `onLook` the limit itself says how often: this many looks see the progress of any owner that counts. */
const LOOKS_PER_LIMIT = 100
const SHORTEST_INTERVAL_MS = 20
const LONGEST_INTERVAL_MS = 1000
/** A longer delay makes `setTimeout` fire at once: https://nodejs.org/api/timers.html#settimeoutcallback-delay-args */
const LONGEST_TIMER_MS = 2 ** 31 - 1

/** Waits for a mutex, of perhaps several that share one limit. */
export async function acquirePatiently(
  mutex: PatientMutex,
  patience: Patience,
  wait: PatientWait,
): Promise<PatientLock> {
  const { purpose, signal, timeoutError } = wait
  signal?.throwIfAborted()
  const watch = new Watch(mutex, patience, wait)
  try {
    if (patience.unusedMs <= 0) return mutex.tryAcquire({ purpose }) ?? watch.giveUp(mutex.query())
    return await mutex.acquire({ purpose, signal: watch.signal, onWait: (owner) => watch.begin(owner) })
  } catch (error) {
    if (error !== OUT_OF_PATIENCE) throw error
    const state = watch.lastState
    const { owner } = state
    notify('timeout', () => ({
      mutex: mutex.name,
      timeoutMs: patience.limitMs,
      ...(owner === undefined ? {} : { owner }),
    }))
    // Made here and not in the timer, so that its stack names the caller.
    throw timeoutError(state)
  } finally {
    watch.end()
  }
}

const OUT_OF_PATIENCE = Symbol('out of patience')

/** The timers of one wait. They end it by `signal`. */
class Watch {
  lastState: MutexState = { held: true }
  readonly #mutex: PatientMutex
  readonly #patience: Patience
  readonly #wait: PatientWait
  readonly #controller = new AbortController()
  #limitTimer: NodeJS.Timeout | undefined
  #lookTimer: NodeJS.Timeout | undefined
  #hasBegun = false

  constructor(mutex: PatientMutex, patience: Patience, wait: PatientWait) {
    this.#mutex = mutex
    this.#patience = patience
    this.#wait = wait
    wait.signal?.addEventListener('abort', this.#onAbort, { once: true })
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  begin(owner: OwnerInfo | undefined): void {
    const { onWait, onLook } = this.#wait
    const { limitMs, isRenewable, unusedMs } = this.#patience
    this.#hasBegun = true
    this.#patience.begin(owner)
    this.#armLimit(unusedMs)
    onWait?.(owner)
    onLook?.(owner)
    if (onLook === undefined && !isRenewable) return
    const intervalMs = Math.min(Math.max(limitMs / LOOKS_PER_LIMIT, SHORTEST_INTERVAL_MS), LONGEST_INTERVAL_MS)
    this.#lookTimer = setInterval(this.#guarded(this.#look), onLook === undefined ? intervalMs : LOOK_INTERVAL_MS)
  }

  giveUp(state: MutexState): never {
    this.lastState = state
    throw OUT_OF_PATIENCE
  }

  end(): void {
    if (this.#hasBegun) this.#patience.end()
    clearTimeout(this.#limitTimer)
    clearInterval(this.#lookTimer)
    this.#wait.signal?.removeEventListener('abort', this.#onAbort)
  }

  readonly #look = (): void => {
    const { owner } = this.#mutex.query()
    this.#patience.look(owner)
    this.#wait.onLook?.(owner)
  }

  readonly #expire = (): void => {
    const state = this.#mutex.query()
    const leftMs = this.#patience.look(state.owner)
    if (leftMs <= 0) this.giveUp(state)
    this.#armLimit(leftMs)
  }

  #armLimit(leftMs: number): void {
    this.#limitTimer = setTimeout(this.#guarded(this.#expire), Math.min(leftMs, LONGEST_TIMER_MS))
  }

  /** What a timer's callback throws would end the process instead of the wait. */
  #guarded(step: () => void): () => void {
    return () => {
      try {
        step()
      } catch (error) {
        this.#controller.abort(error)
      }
    }
  }

  readonly #onAbort = (): void => this.#controller.abort(this.#wait.signal?.reason)
}
