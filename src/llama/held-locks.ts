// The locks of one call: taken one after the other under one time limit, reported to alike, released in reverse.
import { NamedMutex, type NamedMutexOptions } from '../mutex/named-mutex.ts'
import type { ReportedProgress } from '../mutex/options.ts'
import type { OwnerInfo, OwnerProgress } from '../mutex/owner-info.ts'
import { monotonicMs } from './monotonic-clock.ts'
import { isSameOwner, type Patience } from './wait/patience.ts'
import { acquirePatiently, type PatientLock, type PatientMutex } from './wait/progressing-wait.ts'
import { waitTimeoutError } from './wait/wait-timeout.ts'

export interface HeldLocksOptions {
  readonly mutexOptions: NamedMutexOptions
  readonly patience: Patience
  /** Why the locks are held, for the records. */
  readonly purpose: string
  /** What the locks are waited for, for the message of a timeout: "… the lock to <work>". */
  readonly work: string
  /** The option that makes the wait longer. */
  readonly limitOption: string
  readonly signal: AbortSignal | undefined
  readonly onWait?: ((owner: OwnerInfo | undefined) => void) | undefined
  /** Called with the owner's record ten times a second during a wait. */
  readonly onLook?: ((owner: OwnerInfo | undefined) => void) | undefined
}

/** How often others may see the work move on: a small model reports dozens of times in a few milliseconds. */
const REPORT_INTERVAL_MS = 100

export class HeldLocks implements Disposable {
  readonly #options: HeldLocksOptions
  readonly #locks: PatientLock[] = []
  #reportedAt = Number.NEGATIVE_INFINITY
  /** Whose progress was passed on last. */
  #ahead: OwnerInfo | undefined

  constructor(options: HeldLocksOptions) {
    this.#options = options
  }

  /** Waits for the mutex of this name, and keeps its lock. */
  async take(name: string): Promise<PatientLock> {
    using mutex = new NamedMutex(name, this.#options.mutexOptions)
    return await this.takeOf(mutex)
  }

  async takeOf(mutex: PatientMutex): Promise<PatientLock> {
    const { patience, purpose, work, limitOption, signal, onWait, onLook } = this.#options
    const { name } = mutex
    const lock = await acquirePatiently(mutex, patience, {
      purpose,
      signal,
      onWait,
      timeoutError: (state) =>
        waitTimeoutError(work, limitOption, { mutexName: name, timeoutMs: patience.limitMs }, state),
      ...((onLook || this.#locks.length > 0) && {
        onLook: (owner) => {
          onLook?.(owner)
          this.passOn(owner)
        },
      }),
    })
    this.#locks.push(lock)
    return lock
  }

  /** Reports to all who wait for one of the locks, at most ten times a second. Does nothing after the release. */
  report(progress: ReportedProgress): void {
    const now = monotonicMs()
    if (now - this.#reportedAt < REPORT_INTERVAL_MS) return
    this.#reportedAt = now
    for (const lock of this.#locks) lock.report(progress)
  }

  /**
   * Those who wait for a lock that is held here wait for the owner ahead, too: its progress is what keeps them patient.
   * (A loads X and holds the device. B holds the file Y and waits for the device. C waits for Y.)
   */
  passOn(ahead: OwnerInfo | undefined): void {
    if (ahead?.progress === undefined) return
    const isKnown = isSameOwner(ahead, this.#ahead) && ahead.progress.sequence === this.#ahead?.progress?.sequence
    this.#ahead = ahead
    if (!isKnown) for (const lock of this.#locks) lock.report(reported(ahead.progress))
  }

  [Symbol.dispose](): void {
    for (const lock of this.#locks.reverse()) lock.release()
  }
}

function reported({ done, total, unit }: OwnerProgress): ReportedProgress {
  return { done, ...(total !== undefined && { total }), ...(unit !== undefined && { unit }) }
}
