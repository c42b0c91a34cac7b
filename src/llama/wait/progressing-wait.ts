// Waiting for a mutex for as long as its owner gets on: the limit runs from the owner's last progress, not from the
// start of the wait. The kernel keeps this waiter's place in the queue all the while: one acquire, never a retry.

import type { MutexState } from '../../mutex/mutex-core.ts'
import type { MutexLock } from '../../mutex/mutex-lock.ts'
import type { NamedMutex } from '../../mutex/named-mutex.ts'
import type { OwnerInfo } from '../../mutex/owner-info.ts'
import { monotonicMs } from '../monotonic-clock.ts'

export interface ProgressingWait {
  /** How long to wait, in milliseconds. `0` tries once, `Infinity` waits for ever. */
  readonly limitMs: number
  /** Whether each progress of the owner, and each new owner, starts the limit anew. */
  readonly extendWhileProgressing: boolean
  readonly purpose: string
  readonly signal?: AbortSignal | undefined
  /** Makes the error to throw when the limit has run out. */
  readonly timeoutError: (state: MutexState) => Error
  /** Called with the owner's record when the wait begins and then ten times a second. What it throws ends the wait. */
  readonly onLook?: ((owner: OwnerInfo | undefined) => void) | undefined
}

const LOOK_INTERVAL_MS = 100
/** A longer delay makes `setTimeout` fire at once: https://nodejs.org/api/timers.html#settimeoutcallback-delay-args */
const LONGEST_TIMER_MS = 2 ** 31 - 1

export async function acquireWhileProgressing(mutex: NamedMutex, wait: ProgressingWait): Promise<MutexLock> {
  const { limitMs, purpose, signal, timeoutError, onLook } = wait
  signal?.throwIfAborted()
  const controller = new AbortController()
  const abort = () => controller.abort(signal?.reason)
  signal?.addEventListener('abort', abort, { once: true })

  let limitTimer: NodeJS.Timeout | undefined
  let lookTimer: NodeJS.Timeout | undefined
  // What a timer's callback throws would end the process instead of the wait.
  const guarded = (step: () => void) => () => {
    try {
      step()
    } catch (error) {
      controller.abort(error)
    }
  }
  const startTimers = (owner: OwnerInfo | undefined) => {
    const patience = new Patience(wait, owner)
    const expire = guarded(() => {
      const state = mutex.query()
      const leftMs = patience.left(state.owner)
      if (leftMs <= 0) throw timeoutError(state)
      limitTimer = setTimeout(expire, Math.min(leftMs, LONGEST_TIMER_MS))
    })
    limitTimer = setTimeout(expire, Math.min(limitMs, LONGEST_TIMER_MS))
    if (onLook === undefined) return
    onLook(owner)
    lookTimer = setInterval(
      guarded(() => onLook(mutex.query().owner)),
      LOOK_INTERVAL_MS,
    )
  }

  try {
    return await mutex.acquire({ purpose, signal: controller.signal, onWait: startTimers })
  } finally {
    clearTimeout(limitTimer)
    clearInterval(lookTimer)
    signal?.removeEventListener('abort', abort)
  }
}

/** Knows how much of the limit is left, from what each look at the owner's record shows. */
class Patience {
  readonly #limitMs: number
  readonly #extends: boolean
  #owner: OwnerInfo | undefined
  #lookedAt = monotonicMs()
  #runsFrom = this.#lookedAt

  constructor(wait: ProgressingWait, owner: OwnerInfo | undefined) {
    this.#limitMs = wait.limitMs
    this.#extends = wait.extendWhileProgressing
    this.#owner = owner
  }

  left(owner: OwnerInfo | undefined): number {
    const now = monotonicMs()
    if (!isWithoutWords(owner, this.#owner)) {
      if (this.#extends) this.#runsFrom = this.#lastSignOfLife(owner, now)
      this.#owner = owner
    }
    this.#lookedAt = now
    return this.#runsFrom + this.#limitMs - now
  }

  #lastSignOfLife(owner: OwnerInfo | undefined, now: number): number {
    if (!isSameOwner(owner, this.#owner)) return now
    const progress = owner?.progress
    if (progress === undefined || progress.sequence === this.#owner?.progress?.sequence) return this.#runsFrom
    // The record may be damaged: whatever it says, progress since the last look happened between that look and now.
    return Math.min(Math.max(progress.monotonicMs, this.#lookedAt), now)
  }
}

/**
 * The kernel names the same process as before, and its record is damaged or just being written: no news, nor another
 * owner.
 */
function isWithoutWords(now: OwnerInfo | undefined, before: OwnerInfo | undefined): boolean {
  return now !== undefined && now.since === undefined && now.pid === before?.pid
}

/** One acquisition has one `since`: an owner that released and acquired again is a new one. */
export function isSameOwner(a: OwnerInfo | undefined, b: OwnerInfo | undefined): boolean {
  return (
    a?.pid === b?.pid && a?.processStart === b?.processStart && a?.threadId === b?.threadId && a?.since === b?.since
  )
}
