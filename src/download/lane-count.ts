// How many lanes a download has: as many as make it faster. Whether more would, a trial shows: some are added, and when each
// of them brings something, their sum is measured for as long as a connection needs to come up to its speed. Where it is no
// better, one line is full, or one disk, and the lanes that were added leave: they would only cost. The answer may be another
// one later, so after a while it is asked again.

export interface LanesSeen {
  /** In milliseconds, by `performance.now()`. */
  readonly now: number
  /** Bytes, of all lanes so far. */
  readonly received: number
  /** Bytes that are still to come. */
  readonly left: number
  readonly running: readonly { readonly received: number }[]
}

interface Trial {
  readonly at: number
  /** How many lanes there were before, and what they brought. */
  readonly lanes: number
  readonly rate: number
  /** How long it is measured; `undefined` until each lane brings something. */
  lookMs?: number
}

/** How long a rate is measured. */
const [lookMs, trialLookMs, longestLookMs] = [100, 200, 3_000]
/** From the request to the first byte it is some round trips, and so many times more until the window is open. */
const rampUp = 4
/** A lane of a trial that has brought nothing by then is not waited for. */
const longestStartMs = 5_000
/** In bytes a millisecond. One connection that brings as much is not what holds it up. */
const enough = 150_000
/** A trial has to bring so much. */
const worthwhileGain = 1.15
/** With less time to go, another connection comes too late. */
const tooLateMs = 1_500
/** After a trial in vain, how long until the next one, doubled with each in a row; or until it is so many times slower. */
const [firstRestMs, farSlower] = [10_000, 4]
/** After a failed connection, how long until there may be another one. Doubled with each that fails in a row. */
const [firstPauseMs, longestPauseMs] = [1_000, 30_000]

export class LaneCount {
  readonly #most: number
  /** As many as are of use, as far as is known. */
  #wanted: number
  /** The server gives no parts any more, so the lanes that are left are all there will be. */
  #isFinal = false
  #pauseMs = firstPauseMs
  #pausedUntil = 0
  #restMs = firstRestMs
  #rest = { until: 0, rate: 0 }
  #sample: { readonly at: number; readonly received: number } | undefined
  /** Bytes a millisecond, at the last look. */
  #rate: number | undefined
  #trial: Trial | undefined

  /** `most`: so many at most. `all`: all of them, without a trial. */
  constructor(most: number, all: boolean) {
    this.#most = most
    this.#wanted = all ? most : 1
  }

  get isTrying(): boolean {
    return this.#trial !== undefined
  }

  /** One is enough, as far as is known, and no others are tried. */
  get isAlone(): boolean {
    return this.#wanted === 1 && !this.isTrying
  }

  /** Whether one lane fewer than these is enough. Not while they are tried. */
  isTooMany(running: number): boolean {
    return !this.isTrying && running > this.#wanted
  }

  mayAdd(running: number, now: number): boolean {
    return !this.#isFinal && now >= this.#pausedUntil && running < this.#most
  }

  /** One more has something to do, whatever it is of use for all of them. */
  want(running: number): void {
    this.#wanted = Math.max(this.#wanted, running)
  }

  /** A connection has failed. `isFinal`: because the server gives no parts any more. */
  fail(now: number, { retryAfterMs = 0, isFinal = false }): void {
    if (isFinal) this.#isFinal = true
    this.#pausedUntil = now + Math.max(this.#pauseMs, retryAfterMs)
    this.#pauseMs = Math.min(2 * this.#pauseMs, longestPauseMs)
    this.#sample = undefined
  }

  /** A connection has brought so much that it counts as a success. */
  succeed(): void {
    this.#pauseMs = firstPauseMs
  }

  /** How many lanes to add. To be asked several times within a `lookMs`. */
  more(seen: LanesSeen): number {
    const { now, left } = seen
    const running = seen.running.length
    if (!this.mayAdd(running, now) && this.#trial === undefined) return 0
    const rate = this.#measure(seen)
    if (rate === undefined || left < rate * tooLateMs) return 0
    if (running < this.#wanted) {
      // One at a time after a failure: its success, or the next failure, says more.
      if (this.#pausedUntil > 0) this.#pausedUntil = now + this.#pauseMs
      return 1
    }
    const isResting = now < this.#rest.until && rate * farSlower >= this.#rest.rate
    if (isResting || rate >= enough || running >= this.#most) return 0
    this.#trial = { at: now, lanes: running, rate }
    return Math.min(running === 1 ? 3 : running, this.#most - running)
  }

  /** The rate, when it has just been measured, is steady, and no trial has just shown that it is all there is. */
  #measure(seen: LanesSeen): number | undefined {
    const { now, received, running } = seen
    const trial = this.#trial
    if (trial && trial.lookMs === undefined) {
      const startMs = now - trial.at
      if (startMs < longestStartMs && running.some((lane) => lane.received === 0)) return undefined
      trial.lookMs = Math.min(Math.max(trialLookMs, startMs * rampUp), longestLookMs)
      this.#sample = undefined
    }
    const sample = this.#sample
    if (sample === undefined || now - sample.at >= (trial?.lookMs ?? lookMs)) this.#sample = { at: now, received }
    if (sample === undefined || this.#sample === sample) return undefined
    const rate = (received - sample.received) / (now - sample.at)
    const before = this.#rate
    this.#rate = rate
    if (trial === undefined) {
      // As long as a connection becomes faster by itself, more of them can't be compared with it.
      const isRising = before === undefined || rate > before * worthwhileGain
      return isRising ? undefined : Math.max(before, rate)
    }
    this.#trial = undefined
    if (rate <= trial.rate * worthwhileGain) {
      this.#wanted = trial.lanes
      this.#rest = { until: now + this.#restMs, rate }
      this.#restMs *= 2
      return undefined
    }
    this.#wanted = running.length
    this.#restMs = firstRestMs
    return rate
  }
}
