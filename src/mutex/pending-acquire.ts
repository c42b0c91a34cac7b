import type { Hold, NativeFailure } from './addon.ts'
import type { MutexCore } from './mutex-core.ts'
import type { MutexLock } from './mutex-lock.ts'
import { toMutexError } from './native-failure.ts'
import { abortReason, allowManyWaits } from './options.ts'
import { type OwnerInfo, purposeJson } from './owner-info.ts'
import { startUpkeep } from './upkeep.ts'

/** How to wait. */
export interface Waiting {
  readonly timeoutMs: number
  readonly signal: AbortSignal | undefined
  readonly purpose: string | undefined
  readonly onWait: ((owner: OwnerInfo | undefined) => void) | undefined
  /** The stack of the waiting caller. */
  readonly trace: { readonly stack?: string }
}

/** Also keeps the native object alive, and with it the place in the line. */
const pending = new Map<Hold, PendingAcquire>()

/** The addon calls this when a queued acquire was granted or has failed. */
export function dispatch(hold: Hold, failure: NativeFailure | undefined): void {
  const acquire = pending.get(hold)
  if (failure === undefined) acquire?.granted()
  else acquire?.failed(failure)
}

// The longest delay of setTimeout: 24.8 days.
const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * One pending acquire. It ends in one of four ways: granted, failed, timed out, or called off (by the signal, by
 * close(), or by an exception). All of them run on this thread, and the first one removes the others.
 *
 * A grant resolves the promise natively, before `granted` runs here. So the others may still come in between: the addon
 * then refuses to cancel the acquire. A grant may also have been made on another thread and not be delivered yet. A
 * timeout then lets the grant win, because rejecting a lock that is already there helps nobody. Calling the acquire off
 * gives that lock back, and nobody sees it.
 */
export class PendingAcquire {
  readonly #core: MutexCore
  readonly #waiting: Waiting
  readonly #reject: (error: unknown) => void
  readonly #lock: MutexLock
  readonly #hold: Hold
  readonly #startedAt = performance.now()
  #timer: NodeJS.Timeout | undefined

  /** Rejects with what {@link NamedMutex.acquire} rejects with. */
  static start(core: MutexCore, waiting: Waiting): Promise<MutexLock> {
    return new Promise((resolve, reject) => new PendingAcquire(core, waiting, resolve, reject).#begin())
  }

  private constructor(
    core: MutexCore,
    waiting: Waiting,
    resolve: (lock: MutexLock) => void,
    reject: (error: unknown) => void,
  ) {
    this.#core = core
    this.#waiting = waiting
    this.#reject = reject
    this.#lock = core.newLock()
    this.#hold = core.native.enqueue(purposeJson(waiting.purpose), this.#lock, resolve as (lock: object) => void)
    this.#lock.begin(this.#hold, waiting.purpose, () => this.granted())
    pending.set(this.#hold, this)
  }

  #begin(): void {
    const { signal, timeoutMs, purpose, onWait } = this.#waiting
    startUpkeep()
    this.#core.waits.add(this.#callOff)
    try {
      if (signal !== undefined) {
        allowManyWaits(signal)
        signal.addEventListener('abort', this.#onAbort, { once: true })
      }
      if (timeoutMs !== Number.POSITIVE_INFINITY) this.#armTimer()
      this.#core.notifyWait(purpose, onWait)
    } catch (error) {
      this.#callOff(error)
    }
  }

  granted(): void {
    this.#cleanUp()
    const grant = this.#core.native.grantOf(this.#hold)
    this.#core.acquired(this.#lock, grant, this.#waiting.purpose)
  }

  failed(failure: NativeFailure): void {
    this.#cleanUp()
    this.#lock.discard()
    this.#reject(toMutexError(this.#core.name, failure))
  }

  readonly #timedOut = (): void => {
    const { timeoutMs, trace } = this.#waiting
    if (this.#cancel(false)) this.#reject(this.#core.timeoutError(timeoutMs, trace))
  }

  readonly #callOff = (error: unknown): void => {
    if (this.#cancel(true)) this.#reject(error)
  }

  readonly #onAbort = (): void => {
    const { signal } = this.#waiting
    this.#callOff(signal && abortReason(signal))
  }

  readonly #armTimer = (): void => {
    const left = this.#waiting.timeoutMs - (performance.now() - this.#startedAt)
    this.#timer = setTimeout(left > MAX_TIMER_MS ? this.#armTimer : this.#timedOut, Math.min(left, MAX_TIMER_MS))
  }

  #cancel(takeBack: boolean): boolean {
    if (!this.#core.native.cancel(this.#hold, takeBack)) return false
    this.#cleanUp()
    this.#lock.discard()
    return true
  }

  #cleanUp(): void {
    pending.delete(this.#hold)
    clearTimeout(this.#timer)
    this.#core.waits.delete(this.#callOff)
    try {
      this.#waiting.signal?.removeEventListener('abort', this.#onAbort)
    } catch {
      // A signal that is not Node's may throw. Its listener then stays, but finds nothing to cancel.
    }
  }
}
