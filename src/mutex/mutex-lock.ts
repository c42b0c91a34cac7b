import type { Grant, Hold } from './addon.ts'
import { checkProgress, type ReportedProgress } from './options.ts'
import { type OwnerInfo, parseOwnerRecord, progressJson } from './owner-info.ts'
import { notify } from './telemetry.ts'
import type { Leash, Leashes } from './tenure.ts'

/**
 * One held acquisition of a {@link NamedMutex}. Held until {@link release}, or until the process or worker thread ends.
 * It stays held if this object is garbage collected; a process warning (`OS_MUTEX_LOCK_COLLECTED`) reports that. A held
 * lock does not keep the process alive.
 */
export class MutexLock {
  /** The name of the mutex that is held. */
  readonly mutexName: string

  readonly #leashes: Leashes
  #leash: Leash | undefined
  /** Undefined: there is nothing to report of the grant, or, while #settle is set, nobody has asked yet. */
  #grant: Grant | undefined
  /** Asks how a pending acquire was granted. */
  #settle: (() => void) | undefined
  #acquiredAt = 0
  #lost: AbortSignal | undefined
  #reports = 0

  /** @internal */
  constructor(leashes: Leashes) {
    this.mutexName = leashes.mutexName
    this.#leashes = leashes
  }

  /** @internal Binds it to `hold`, which is granted now or later. `settle` leads to a call of {@link describe}. */
  begin(hold: Hold, purpose: string | undefined, settle?: () => void): void {
    this.#leash = this.#leashes.lend()
    this.#leash.tenure.begin(hold, purpose)
    this.#settle = settle
  }

  /** @internal */
  describe(grant: Grant | undefined): void {
    this.#settle = undefined
    this.#grant = grant
    if (this.#leash !== undefined) this.#leashes.began(this.#leash.tenure)
    this.#acquiredAt = performance.now()
  }

  /** @internal For an acquire that was not granted: no caller has seen this object. */
  discard(): void {
    this.#settle = undefined
    this.#free()
  }

  /** @internal Releases it as if it had never been acquired: an abandoned mutex stays abandoned for its next owner. */
  giveBack(): void {
    this.#end((hold) => this.#leashes.native.giveBack(hold))
  }

  /** @internal Does the first upkeep at once, for a thread that may not return to its event loop. */
  careFor(): void {
    if (this.#leash !== undefined) this.#leashes.native.keepYoung(this.#leash.tenure.hold)
  }

  /**
   * Whether the previous owner ended without releasing. You hold the lock all the same, as in Win32: repair what the
   * mutex protects. Exactly one owner sees `true`, and never after a clean release. `false` proves nothing after a
   * reboot, nor for a global name, whose lock file any user can write to.
   */
  get abandoned(): boolean {
    this.#settle?.()
    return this.#grant?.abandoned ?? false
  }

  /** The owner that abandoned it, where its record could be read. `undefined` unless {@link abandoned}. */
  get previousOwner(): OwnerInfo | undefined {
    this.#settle?.()
    // Read on demand: parsing it is the longest step of a recovery, and a repair can begin without it.
    const record = this.#grant?.previousOwner
    return record === undefined ? undefined : parseOwnerRecord(record)
  }

  /** How long the acquire took, in milliseconds. 0 when it did not have to wait. */
  get waitedMs(): number {
    this.#settle?.()
    return this.#grant?.waitedMs ?? 0
  }

  /** Whether the lock was released. */
  get released(): boolean {
    return this.#leash === undefined
  }

  /**
   * Aborts when the lock has certainly ended under its living owner: somebody removed or replaced the lock file, so
   * another process may own the mutex now. The reason is a `MutexLostError` (`ERR_MUTEX_LOST`). POSIX only; checked
   * every 10 minutes, at each {@link report} and at each {@link NamedMutex.query}. If nobody has read `lost`, a process
   * warning (`OS_MUTEX_LOST`) reports the loss. Never aborts after the release.
   */
  get lost(): AbortSignal {
    this.#lost ??= this.#leash?.tenure.lost ?? new AbortController().signal
    return this.#lost
  }

  /**
   * Publishes the progress of the work under the lock for everybody who waits (see {@link NamedMutex.query}). Costs one
   * small write. Does nothing after release.
   * @throws `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`
   */
  report(progress: ReportedProgress): void {
    checkProgress(progress)
    const tenure = this.#leash?.tenure
    if (tenure === undefined) return
    const { done, total, unit } = progress
    this.#reports++
    this.#leashes.native.report(
      tenure.hold,
      progressJson({
        done,
        ...(total === undefined ? {} : { total }),
        ...(unit === undefined ? {} : { unit }),
        sequence: this.#reports,
        monotonicMs: Math.round(Number(process.hrtime.bigint() / 1_000_000n)),
      }),
    )
    tenure.look()
  }

  /** Releases the lock. The mutex is free when it returns. A second call does nothing. Never throws. */
  release(): void {
    this.#end((hold) => this.#leashes.native.release(hold))
  }

  #end(release: (hold: Hold) => void): void {
    if (this.#leash === undefined) return
    // First, because others wait for it.
    release(this.#leash.tenure.hold)
    this.#free()
    this.#settle?.()
    notify('release', () => ({ mutex: this.mutexName, heldMs: performance.now() - this.#acquiredAt }))
  }

  #free(): void {
    if (this.#leash === undefined) return
    this.#leashes.takeBack(this.#leash)
    this.#leash = undefined
  }

  [Symbol.dispose](): void {
    this.release()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
  }
}
