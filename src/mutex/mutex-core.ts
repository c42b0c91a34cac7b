// The inside of one NamedMutex, shared by the public class, its locks and its pending acquires.
import { threadId } from 'node:worker_threads'
import { addon, type Grant, type Hold, type NativeFailure, type NativeMutex } from './addon.ts'
import { MutexError, type MutexTimeoutError } from './errors.ts'
import { MutexLock } from './mutex-lock.ts'
import type { MutexLocation } from './mutex-platform.ts'
import { toMutexError } from './native-failure.ts'
import { type OwnerInfo, ownerJson, purposeJson } from './owner-info.ts'
import { presentOwner } from './present-owner.ts'
import { currentProcess } from './process-identity.ts'
import { warnUnrecorded } from './record-warning.ts'
import { notify } from './telemetry.ts'
import { Leashes } from './tenure.ts'
import { timeoutError } from './timeout-error.ts'
import { startUpkeep } from './upkeep.ts'

/** What {@link NamedMutex.query} saw. */
export interface MutexState {
  readonly held: boolean
  /** The owner, if it is held and the owner is known: its record, or only the pid of a program that keeps no record. */
  readonly owner?: OwnerInfo
}

export class MutexCore {
  readonly name: string
  readonly native: NativeMutex
  /** Functions that reject the pending acquires. close() calls them. */
  readonly waits = new Set<(error: MutexError) => void>()
  #isClosed = false
  readonly #mayLackRecord: boolean
  readonly #leashes: Leashes

  constructor(
    name: string,
    location: MutexLocation,
    app: string,
    dispatch: (hold: Hold, failure: NativeFailure | undefined) => void,
  ) {
    this.name = name
    const record = ownerJson(currentProcess(), app, threadId)
    const { path, ownDirectory, objectName, mode } = location
    this.native = new addon.NativeMutex(path, ownDirectory, objectName, record, dispatch, mode)
    this.#mayLackRecord = mode !== undefined
    this.#leashes = new Leashes(name, path, this.native)
  }

  /** Takes the mutex if it is free. */
  try(purpose: string | undefined): MutexLock | null {
    this.checkOpen()
    const granted = this.guard(() => this.native.tryAcquire(purposeJson(purpose)))
    if (granted === 0) return null
    const lock = this.newLock()
    if (typeof granted === 'number') lock.begin(granted, purpose)
    else lock.begin(granted.hold, purpose)
    this.acquired(lock, typeof granted === 'number' ? undefined : granted, purpose)
    return lock
  }

  /** A lock object that holds nothing yet. */
  newLock(): MutexLock {
    return new MutexLock(this.#leashes)
  }

  /** Completes an acquired lock: stores its grant, warns, and publishes. `grant`: undefined if nothing is to report. */
  acquired(lock: MutexLock, grant: Grant | undefined, purpose: string | undefined): void {
    startUpkeep()
    lock.describe(grant)
    if (grant?.unrecorded !== undefined && !this.#mayLackRecord) warnUnrecorded(grant.unrecorded)
    notify('acquire', () => ({
      mutex: this.name,
      ...(purpose === undefined ? {} : { purpose }),
      waitedMs: lock.waitedMs,
      abandoned: lock.abandoned,
    }))
    if (!lock.abandoned) return
    notify('abandoned', () => {
      const { previousOwner } = lock
      return { mutex: this.name, ...(previousOwner === undefined ? {} : { previousOwner }) }
    })
  }

  /** With `mayProbe: false`, the mutex counts as held if only a probe could find out. */
  query(mayProbe: boolean): MutexState {
    this.checkOpen()
    const seen = this.guard(() => this.native.query(mayProbe))
    if (!seen.held) return { held: false }
    this.#leashes.look()
    const owner = presentOwner(seen)
    return owner === undefined ? { held: true } : { held: true, owner }
  }

  /** Reports a wait to listeners, and the mutex's owner to `onWait`. Throws what `onWait` throws. */
  notifyWait(purpose: string | undefined, onWait: ((owner: OwnerInfo | undefined) => void) | undefined): void {
    notify('wait', () => ({ mutex: this.name, ...(purpose === undefined ? {} : { purpose }) }))
    onWait?.(this.#stateIfKnown().owner)
  }

  /** `trace`: the stack of the waiting caller, which replaces the timer's. */
  timeoutError(timeoutMs: number, trace?: { readonly stack?: string }): MutexTimeoutError {
    const state = this.#stateIfKnown()
    const { owner } = state
    notify('timeout', () => ({ mutex: this.name, timeoutMs, ...(owner === undefined ? {} : { owner }) }))
    const error = timeoutError(this.name, timeoutMs, state)
    const frames = trace?.stack?.replace(/^.*\n/, '')
    if (frames !== undefined) error.stack = `${error.name}: ${error.message}\n${frames}`
    return error
  }

  /** For messages only. If the look fails, such as for lack of a descriptor, a timeout must stay a timeout error. */
  #stateIfKnown(): MutexState {
    try {
      // It was held a moment ago. Taking it now, even for a moment, would get in the way of its waiters.
      return this.query(false)
    } catch {
      return { held: true }
    }
  }

  guard<T>(call: () => T): T {
    try {
      return call()
    } catch (failure) {
      throw toMutexError(this.name, failure as NativeFailure)
    }
  }

  checkOpen(): void {
    if (this.#isClosed) throw this.#closedError()
  }

  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const fail of [...this.waits]) fail(this.#closedError())
    this.native.close()
  }

  #closedError(): MutexError {
    return new MutexError('ERR_MUTEX_CLOSED', `Mutex ${JSON.stringify(this.name)}: this instance was closed`)
  }
}
