// How long a caller stays patient: the limit runs from the owner's last progress, over all locks that one call waits for.
import type { OwnerInfo, OwnerProgress } from '../../mutex/owner-info.ts'
import { monotonicMs } from '../monotonic-clock.ts'

export interface PatienceOptions {
  /** How long to wait, in milliseconds. `0` tries once, `Infinity` waits for ever. */
  readonly limitMs: number
  /** Whether each progress of an owner starts the limit again. */
  readonly extendWhileProgressing: boolean
  /**
   * Whether the work of each owner begins at 0, as a load does. Then a new owner that is above 0 has made progress. A
   * download may begin with the bytes that an earlier owner left, which are no progress. Default: `false`.
   */
  readonly beginsAtZero?: boolean
}

/**
 * The patience of one call. It is used up only between `begin` and `end`, so what the call does between two waits does
 * not count. A new owner does not renew it, only progress does: owners that fail one after another bring nobody closer.
 */
export class Patience {
  readonly limitMs: number
  readonly #extends: boolean
  readonly #beginsAtZero: boolean
  #owner: OwnerInfo | undefined
  /** How much of the owner's progress has renewed it. */
  #counted = 0
  #runsFrom = 0
  #lookedAt = 0
  /** Up to the end of the last wait. */
  #usedMs = 0

  constructor({ limitMs, extendWhileProgressing, beginsAtZero = false }: PatienceOptions) {
    this.limitMs = limitMs
    this.#extends = extendWhileProgressing
    this.#beginsAtZero = beginsAtZero
  }

  /** Whether looks at the owner can make a difference. */
  get isRenewable(): boolean {
    return this.#extends && this.limitMs !== Number.POSITIVE_INFINITY
  }

  /** What no wait has used. Only before `begin` and after `end`. */
  get unusedMs(): number {
    return this.limitMs - this.#usedMs
  }

  /** A wait begins. `owner`: who holds what is waited for. */
  begin(owner: OwnerInfo | undefined): void {
    this.#lookedAt = monotonicMs()
    this.#runsFrom = this.#lookedAt - this.#usedMs
    this.#owner = owner
    this.#counted = owner?.progress?.done ?? 0
  }

  /** Takes account of what a look at the owner shows. Returns what is left, in milliseconds. */
  look(owner: OwnerInfo | undefined): number {
    const now = monotonicMs()
    // A record that is damaged, or just being written, is no news.
    if (owner?.progress !== undefined) {
      const { done, monotonicMs: reportedAt } = owner.progress
      this.#counted = this.#before(owner, done)
      if (this.#extends && isWorthwhile(done - this.#counted, owner.progress)) {
        // The record may be wrong: whatever it says, progress since the last look was made between that look and now.
        this.#runsFrom = Math.min(Math.max(reportedAt, this.#lookedAt), now)
        this.#counted = done
      }
      this.#owner = owner
    }
    this.#lookedAt = now
    return this.#runsFrom + this.limitMs - now
  }

  end(): void {
    this.#usedMs = monotonicMs() - this.#runsFrom
  }

  /** From where this owner's progress counts. What falls begins again, with another phase of the work. */
  #before(owner: OwnerInfo, done: number): number {
    const isSameWork = isSameOwner(owner, this.#owner) && owner.progress?.unit === this.#owner?.progress?.unit
    if (isSameWork) return Math.min(this.#counted, done)
    return this.#beginsAtZero ? 0 : done
  }
}

/** A connection that brings a byte now and then keeps nobody patient. */
const WORTHWHILE_BYTES = 64 * 1024

function isWorthwhile(gain: number, { done, total, unit }: OwnerProgress): boolean {
  return gain > 0 && (unit !== 'bytes' || gain >= WORTHWHILE_BYTES || done === total)
}

/** One acquisition has one `since`: an owner that released and acquired again is a new one. */
export function isSameOwner(a: OwnerInfo | undefined, b: OwnerInfo | undefined): boolean {
  return (
    a?.pid === b?.pid && a?.processStart === b?.processStart && a?.threadId === b?.threadId && a?.since === b?.since
  )
}
