import { isAbandoned, type NativeMutex, type Token } from './addon.ts'
import { checkProgress, type ReportedProgress } from './options.ts'
import { type OwnerInfo, parseOwnerRecord, progressJson } from './owner-info.ts'
import { tell } from './telemetry.ts'

/** What a lost lock leaves for its undertaker; must not reach the lock itself. */
interface Estate {
  readonly native: NativeMutex
  readonly token: Token
  readonly mutexName: string
}

// A lock that nobody can release any more is freed as after a crash: what it protected was perhaps left half done.
const lost = new FinalizationRegistry<Estate>(({ native, token, mutexName }) => {
  native.abandon(token)
  process.emitWarning(
    `A lock of the mutex ${JSON.stringify(mutexName)} was garbage collected while held. It was released and counts as ` +
      'abandoned. Keep a reference to a lock and release it, for example by "await using" or withLock().',
    { type: 'MutexWarning', code: 'OS_MUTEX_LOCK_LOST' },
  )
})

let begin: (lock: MutexLock, token: Token, acquiredAt: number, waitedMs: number) => void
let promise: (lock: MutexLock, settle: () => void) => void
let discard: (lock: MutexLock) => void
let undo: (lock: MutexLock) => void

/** Says of an acquired lock how it was acquired. */
export function describeLock(lock: MutexLock, token: Token, acquiredAt: number, waitedMs: number): void {
  begin(lock, token, acquiredAt, waitedMs)
}

/** The lock of an acquire in line. `settle` calls {@link describeLock}, soon after the owner has it, or before somebody asks for it. */
export function promiseLock(lock: MutexLock, settle: () => void): void {
  promise(lock, settle)
}

/** The acquire came to nothing, and nobody has seen its lock. */
export function discardLock(lock: MutexLock): void {
  discard(lock)
}

/** Releases a lock that its owner has made no use of. What was abandoned before it is so after it: the next owner is told. */
export function giveBack(lock: MutexLock): void {
  undo(lock)
}

/**
 * One held acquisition of a {@link NamedMutex}. Held until {@link release}, or until the process or worker thread ends. It
 * does not keep the process alive.
 */
export class MutexLock {
  /** The name of the mutex that is held. */
  readonly mutexName: string
  /**
   * The previous owner ended without releasing. The lock is yours all the same, as in Win32: repair what the mutex protects.
   * Told to exactly one owner, never after a clean release.
   */
  readonly abandoned: boolean = false

  readonly #native: NativeMutex
  #token: Token
  #acquiredAt = 0
  #waitedMs = 0
  // Read on demand: for a repair that can begin without it, its parsing would be the longest part of the way here.
  #previous: string | OwnerInfo | undefined = undefined
  #settle: (() => void) | undefined = undefined
  #reports = 0

  /** @internal */
  constructor(mutexName: string, native: NativeMutex, token: Token) {
    this.mutexName = mutexName
    this.#native = native
    this.#token = token
    lost.register(this, { native, token, mutexName }, this)
  }

  static {
    begin = (lock, token, acquiredAt, waitedMs) => {
      lock.#settle = undefined
      lock.#acquiredAt = acquiredAt
      lock.#waitedMs = waitedMs
      if (!isAbandoned(token)) return
      const told: { -readonly [K in 'abandoned']: MutexLock[K] } = lock
      told.abandoned = true
      lock.#previous = lock.#native.previousOwner()
    }
    promise = (lock, settle) => {
      lock.#settle = settle
    }
    discard = (lock) => {
      lock.#token = 0
      lost.unregister(lock)
    }
    undo = (lock) => {
      if (lock.abandoned) lock.#end((token) => lock.#native.giveBack(token))
      else lock.release()
    }
  }

  /** Who abandoned it, where its record could be read. `undefined` unless {@link abandoned}. */
  get previousOwner(): OwnerInfo | undefined {
    if (typeof this.#previous === 'string') this.#previous = parseOwnerRecord(this.#previous)
    return this.#previous
  }

  /** How long the acquire took, in milliseconds. 0 when it did not have to wait. */
  get waitedMs(): number {
    this.#settle?.()
    return this.#waitedMs
  }

  /** Whether the lock was released. */
  get released(): boolean {
    return this.#token === 0
  }

  /**
   * Says how far the work under the lock has come, for everybody who waits (see {@link NamedMutex.query}). Costs one small
   * write. Does nothing after release.
   * @throws `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`
   */
  report(progress: ReportedProgress): void {
    checkProgress(progress)
    if (this.#token === 0) return
    const { done, total, unit } = progress
    this.#reports++
    this.#native.report(
      this.#token,
      progressJson({
        done,
        ...(total === undefined ? {} : { total }),
        ...(unit === undefined ? {} : { unit }),
        sequence: this.#reports,
        monotonicMs: Math.round(Number(process.hrtime.bigint() / 1_000_000n)),
      }),
    )
  }

  /** Releases the lock: done when it returns. Again does nothing. Never throws. */
  release(): void {
    this.#end((token) => this.#native.release(token))
  }

  #end(release: (token: Token) => void): void {
    const token = this.#token
    if (token === 0) return
    this.#token = 0
    // First: others wait for it.
    release(token)
    this.#settle?.()
    lost.unregister(this)
    tell('release', () => ({ mutex: this.mutexName, heldMs: performance.now() - this.#acquiredAt }))
  }

  [Symbol.dispose](): void {
    this.release()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
  }
}
