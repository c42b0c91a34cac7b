// Turns a flood of byte counts into a few events that a progress bar can trust.

export type DownloadPhase = 'resolving' | 'downloading' | 'verifying' | 'publishing' | 'copying'

export interface DownloadProgress {
  /**
   * `resolving`: looking at what is there and asking the server. `verifying`: hashing bytes that are on disk already.
   * `downloading`: bytes come in. `publishing`: making the finished file durable and visible. `copying`: to `mirrorTo`.
   */
  readonly phase: DownloadPhase
  /** Bytes so far, those kept from an earlier attempt included. Never falls within a phase. */
  readonly done: number
  /** The file's size in bytes, once known. */
  readonly total?: number
  /** Over the last few seconds. */
  readonly bytesPerSecond?: number
  /** Time left at that rate, in milliseconds. */
  readonly etaMs?: number
}

const minIntervalMs = 100
const windowMs = 3_000

export class ProgressReporter {
  readonly #listener: ((progress: DownloadProgress) => void) | undefined
  #phase: DownloadPhase | undefined
  #done = 0
  #total: number | undefined
  #emittedAt = Number.NEGATIVE_INFINITY
  #told: { readonly done: number; readonly rate: number } = { done: 0, rate: 0 }
  #samples: { at: number; done: number }[] = []

  constructor(listener: ((progress: DownloadProgress) => void) | undefined) {
    this.#listener = listener
  }

  /** Starts a phase, told at once; going on with the same phase (after a retry) only moves it. */
  enter(phase: DownloadPhase, done: number, total: number | undefined): void {
    if (phase === this.#phase) {
      this.advance(done, total)
      return
    }
    this.#phase = phase
    this.#done = done
    this.#total = total
    this.#samples = []
    this.#emit(performance.now())
  }

  /** Moves the current phase; told at most 10 times a second. */
  advance(done: number, total: number | undefined): void {
    // A transfer that had to start over must not turn the bar back: it stands until the new bytes pass the old mark.
    this.#done = Math.max(this.#done, done)
    this.#total = total
    const now = performance.now()
    if (now - this.#emittedAt >= minIntervalMs) this.#emit(now)
  }

  /** From time to time, for when no byte comes: what came last, and that the rate falls. */
  tell(): void {
    const now = performance.now()
    const isNew = this.#told.done !== this.#done || this.#told.rate > 0
    if (isNew && now - this.#emittedAt >= minIntervalMs) this.#emit(now)
  }

  /** The last event of every download that succeeds: 100 %. */
  finish(bytes: number): void {
    this.#done = bytes
    this.#total = bytes
    this.#emit(performance.now())
  }

  #emit(now: number): void {
    this.#emittedAt = now
    if (!this.#listener || !this.#phase) return
    this.#samples.push({ at: now, done: this.#done })
    while (this.#samples.length > 2 && now - (this.#samples[0]?.at ?? now) > windowMs) this.#samples.shift()
    const oldest = this.#samples[0] ?? { at: now, done: this.#done }
    const elapsedMs = now - oldest.at
    const rate = elapsedMs > 0 ? ((this.#done - oldest.done) / elapsedMs) * 1000 : 0
    this.#told = { done: this.#done, rate }
    // One that turned out to be wrong is no total.
    const total = this.#total !== undefined && this.#done > this.#total ? undefined : this.#total
    this.#listener({
      phase: this.#phase,
      done: this.#done,
      ...(total !== undefined && { total }),
      ...(rate > 0 && { bytesPerSecond: rate }),
      ...(rate > 0 && total !== undefined && { etaMs: Math.max(0, ((total - this.#done) / rate) * 1000) }),
    })
  }
}
