// Fills a partial in over one or several connections: lanes. Each has a stretch of the file of its own, asks for it with one
// request and writes what comes. Stretches are given out in the file's order and are as long as their lane needs a few seconds
// for, so that what is hashed from the front never falls far behind. A lane that finds none left takes from the one that
// would be last as much as makes both end at the same time; so a slow connection never has much to bring.
//
// All of it runs on one thread, and no stretch is in two lanes at once. A stretch may become shorter while its lane is
// waiting for bytes or for the disk, but only behind its `start`, which a lane moves before it writes; so no byte is fetched twice
// but for what is on its way when a lane's request is longer than its stretch has become.
//
// A lane whose connection fails leaves its rest to the others, and a new one is tried after a pause. Only when the last one
// fails does `run` reject; whether to begin again then is for the caller to say.
import { setMaxListeners } from 'node:events'
import { bytesOf, firstOf } from './disk/chunks.ts'
import { ModelDownloadError } from './errors.ts'
import { LowSpeed, type SpeedLimit } from './http/low-speed.ts'
import { type RemoteFile, UnusableRangeError } from './http/remote.ts'
import { isTransient } from './http/retry.ts'
import { LaneCount } from './lane-count.ts'
import type { Extent } from './partial/extents.ts'

export interface LanesOptions {
  /** Size of the file; `undefined` when only the end of the body will tell. Then there is one lane. */
  readonly total: number | undefined
  /** What is missing, in order. */
  readonly missing: readonly Extent[]
  /** So many lanes at most. */
  readonly connections: number
  /** Whether to use that many at once, instead of as many as make it faster. */
  readonly all: boolean
  readonly signal: AbortSignal | undefined
  /** Asks for a stretch. The answer begins at its start. */
  readonly open: (stretch: Extent, signal: AbortSignal) => Promise<RemoteFile>
  readonly write: (position: number, chunks: readonly Buffer[]) => Promise<void>
  /** How many writes of one lane may be under way. */
  readonly writesAtOnce: number
  readonly onReceived: (bytes: number) => void
  readonly speedLimit: SpeedLimit
  /** The error for an answer without a byte of the stretch that it was asked for. */
  readonly empty: (stretch: Extent) => Error
  /** The error for a body that goes on behind `total`. */
  readonly tooLong: () => Error
}

interface Lane extends Extent {
  /** Where its next byte goes. */
  start: number
  end: number
  /** Bytes a millisecond, of late; 0 until that of any lane is known. */
  rate: number
  /** What `rate` is measured from. */
  sample: { readonly at: number; readonly received: number }
  received: number
  /** Ends its request: there is nothing left for it to bring. */
  readonly ending: AbortController
}

const KiB = 1024
const MiB = 1024 * KiB
/** A stretch is about so long, at the rate that its lane has. */
const stretchMs = 2_000
/** That of a lane that may turn out to be of no use. */
const triedStretchMs = 1_000
/** That of the last one. */
const lastStretchMs = 250
const [minStretchBytes, firstStretchBytes, maxStretchBytes] = [256 * KiB, 4 * MiB, 64 * MiB]
/** Less than this is not taken from another lane, nor from one that will be done as soon: what is on its way to it is lost. */
const [minStolenBytes, minTimeLeftMs] = [64 * KiB, 1_000]
/** A lane so many times slower than the best one was is helped, also when another lane would make nothing faster before. */
const farSlower = 4
/** How long the rate of a lane is measured. */
const measureMs = 200
const lookEveryMs = 50
/** A lane that brought so much before it broke may try again at once. */
const healthyBytes = MiB

export class Lanes {
  readonly #options: LanesOptions
  readonly #ending = new AbortController()
  readonly #signal: AbortSignal
  readonly #running = new Set<Lane>()
  readonly #ends: Promise<void>[] = []
  readonly #count: LaneCount
  #unclaimed: Extent[]
  #failure: { readonly error: unknown } | undefined
  #received = 0
  /** The highest rate that a lane has had. */
  #best = 0
  /** When a lane left: those that stay need a moment to become as fast as they can be without it. */
  #leftAt = 0

  constructor(options: LanesOptions) {
    this.#options = options
    this.#unclaimed = [...options.missing]
    this.#count = new LaneCount(this.#most, options.all)
    this.#signal = options.signal ? AbortSignal.any([options.signal, this.#ending.signal]) : this.#ending.signal
    setMaxListeners(0, this.#signal, this.#ending.signal)
  }

  get #most(): number {
    return this.#options.total === undefined ? 1 : this.#options.connections
  }

  /**
   * Resolves when no byte is missing. `first` answers the first missing stretch. Rejects with the first error that can't be
   * got around, when no lane is under way any more, so no write either.
   */
  async run(first: RemoteFile): Promise<void> {
    const stretch = this.#unclaimed.shift()
    if (stretch === undefined) return first.discard()
    this.#start(stretch, first)
    const timer = this.#most > 1 ? setInterval(() => this.#grow(), lookEveryMs) : undefined
    try {
      if (this.#options.all) this.#add(this.#most - 1)
      // Lanes may be added while others end.
      for (let index = 0; index < this.#ends.length; index++) await this.#ends[index]
    } finally {
      clearInterval(timer)
    }
    this.#throwFailure()
  }

  #start({ start, end }: Extent, answer?: RemoteFile): void {
    const sample = { at: performance.now(), received: 0 }
    // Until it is measured it counts as one of the good ones: else the next lane would take all of it.
    const lane: Lane = { start, end, rate: this.#best, sample, received: 0, ending: new AbortController() }
    this.#running.add(lane)
    const run = this.#drive(lane, answer)
    this.#ends.push(run.catch((error: unknown) => this.#onError(lane, error)))
  }

  async #drive(lane: Lane, first: RemoteFile | undefined): Promise<void> {
    let answer = first
    const signal = AbortSignal.any([this.#signal, lane.ending.signal])
    for (;;) {
      const before = lane.start
      let isAll = false
      try {
        answer ??= await this.#options.open({ start: lane.start, end: lane.end }, signal)
        await this.#receive(lane, answer)
        // One that did not tell where it ends has told it by ending.
        isAll = answer.end === undefined
      } catch (error) {
        const isRelieved = lane.ending.signal.aborted && !this.#signal.aborted
        const isWorthIt = this.#options.total !== undefined && lane.start - before >= healthyBytes
        if (!isRelieved && (!isTransient(error) || !isWorthIt || this.#failure)) throw error
      }
      // It has left already, and takes no more: whatever it asked for would be called off.
      if (lane.ending.signal.aborted) return
      answer = undefined
      if (isAll) return this.#leave(lane)
      if (lane.start < lane.end) {
        // Also an honest server may end early: it may answer a range with a shorter one.
        if (lane.start === before) throw this.#options.empty({ start: lane.start, end: lane.end })
        continue
      }
      const next = this.#count.isTooMany(this.#running.size) ? undefined : this.#claim(lane.rate || this.#best)
      if (next === undefined) return this.#leave(lane)
      lane.start = next.start
      lane.end = next.end
    }
  }

  async #receive(lane: Lane, answer: RemoteFile): Promise<void> {
    const { total = Number.POSITIVE_INFINITY, write, writesAtOnce, onReceived, tooLong, speedLimit } = this.#options
    const writes = new Set<Promise<void>>()
    const discard = () => answer.discard()
    const speed = new LowSpeed(speedLimit, answer)
    for (const { signal } of [this.#ending, lane.ending]) signal.addEventListener('abort', discard, { once: true })
    try {
      for await (const chunks of speed.watched()) {
        this.#throwFailure()
        const bytes = bytesOf(chunks)
        const position = lane.start
        if (position + bytes > total) throw tooLong()
        this.#note(lane, bytes)
        onReceived(bytes)
        while (position + bytes >= lane.end && this.#goOn(lane, answer)) {}
        const wanted = Math.max(0, Math.min(bytes, lane.end - position))
        lane.start = position + wanted
        // Its failure is heard at once, for its lane may have long to wait for the next bytes.
        const writing = write(position, firstOf(chunks, wanted))
          .catch((error: unknown) => this.#fail(error))
          .finally(() => {
            writes.delete(writing)
            answer.giveBack(chunks)
          })
        writes.add(writing)
        if (writes.size >= writesAtOnce) await Promise.race(writes)
        // Not where the body ends as well: its connection can be used again then. Nor where only its end tells how long it is.
        if (lane.start >= lane.end && answer.end !== undefined && lane.end !== answer.end) break
      }
      await Promise.all(writes)
      this.#throwFailure()
    } finally {
      for (const { signal } of [this.#ending, lane.ending]) signal.removeEventListener('abort', discard)
      answer.discard()
      await Promise.all(writes)
    }
  }

  #note(lane: Lane, bytes: number): void {
    this.#received += bytes
    lane.received += bytes
    if (lane.received >= healthyBytes) this.#count.succeed()
  }

  /** Ends all lanes: none of them can go on. */
  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#ending.abort(error)
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure.error
  }

  /** At once, and not a turn later: a lane that fails in between would leave its rest to this one. */
  #leave(lane: Lane): void {
    this.#running.delete(lane)
    this.#leftAt = performance.now()
  }

  /** Its rest is anybody's again. Without any lane left, or where it is of no use to go on, the first error is all's. */
  #onError(lane: Lane, error: unknown): void {
    this.#leave(lane)
    if (lane.start < lane.end) this.#giveUp({ start: lane.start, end: lane.end })
    const isRefusal = error instanceof ModelDownloadError && error.code === 'ERR_MODEL_HTTP_STATUS'
    const isUnusable = error instanceof UnusableRangeError
    if (!(isTransient(error) || isRefusal || isUnusable) || this.#running.size === 0 || this.#failure) {
      this.#fail(error)
      return
    }
    const { retryAfterMs = 0 } = error as ModelDownloadError
    this.#count.fail(performance.now(), { retryAfterMs, isFinal: isUnusable })
  }

  #giveUp(stretch: Extent): void {
    this.#unclaimed = [...this.#unclaimed, stretch].sort((a, b) => a.start - b.start)
  }

  /** The next stretch that nobody has, or a part of another lane's, for a lane of this rate. */
  #claim(rate: number): Extent | undefined {
    if (this.#unclaimed.length === 0) this.#split(rate)
    const length = this.#stretchBytes(rate)
    const next = this.#unclaimed.shift()
    if (next === undefined || next.end - next.start <= length) return next
    const end = next.start + length
    this.#unclaimed.unshift({ start: end, end: next.end })
    return { start: next.start, end }
  }

  /** With the stretch behind its own, where nobody has that and the lane's answer brings it. */
  #goOn(lane: Lane, answer: RemoteFile): boolean {
    const end = Math.min(answer.end ?? lane.end, lane.end + this.#stretchBytes(lane.rate || this.#best))
    const index = this.#unclaimed.findIndex(({ start }) => start === lane.end)
    const next = this.#unclaimed[index]
    const isLeaving = !this.#running.has(lane) || this.#count.isTooMany(this.#running.size)
    if (next === undefined || end <= lane.end || isLeaving) return false
    lane.end = Math.min(end, next.end)
    this.#unclaimed.splice(index, 1, ...(lane.end < next.end ? [{ start: lane.end, end: next.end }] : []))
    return true
  }

  /** Shorter towards the end, so that all lanes end at about the same time. */
  #stretchBytes(rate: number): number {
    if (this.#count.isAlone) return Number.POSITIVE_INFINITY
    if (rate === 0) return firstStretchBytes
    const fair = sizeOf(this.#unclaimed) / Math.max(this.#running.size, 1)
    const longest = rate * (this.#count.isTrying ? triedStretchMs : stretchMs)
    const bytes = Math.min(longest, Math.max(fair, rate * lastStretchMs))
    return Math.min(maxStretchBytes, Math.max(minStretchBytes, Math.round(bytes)))
  }

  /**
   * Takes from the lane that would be last, so much that it and a lane of this rate end at the same time. Of much more than a
   * stretch all but a stretch: the file's order is that in which it is hashed.
   */
  #split(rate: number): void {
    const last = this.#last()
    if (last === undefined) return
    const left = last.end - last.start
    const share = last.rate + rate === 0 ? 0.5 : last.rate / (last.rate + rate)
    const stretch = last.rate === 0 ? maxStretchBytes : Math.max(minStretchBytes, Math.round(last.rate * stretchMs))
    const kept = Math.min(Math.floor(left * share), stretch)
    if (left - kept < minStolenBytes || timeLeft(last) < minTimeLeftMs) return
    this.#unclaimed.push({ start: last.start + kept, end: last.end })
    last.end = last.start + kept
    if (kept > 0) return
    // Not later: until then it would count as one that goes on with what others leave.
    this.#leave(last)
    last.ending.abort()
  }

  /** The lane that will be done last. */
  #last(): Lane | undefined {
    return [...this.#running].sort((a, b) => timeLeft(b) - timeLeft(a))[0]
  }

  /** Measures each lane, and adds lanes where that makes it faster. Rates are in bytes a millisecond. */
  #grow(): void {
    const now = performance.now()
    const running = [...this.#running]
    for (const lane of running) {
      measure(lane, now)
      this.#best = Math.max(this.#best, lane.rate)
    }
    if (this.#isHeldUp() && this.#count.mayAdd(running.length, now)) {
      this.#count.want(running.length + 1)
      this.#add(1)
      return
    }
    this.#add(this.#count.more({ now, received: this.#received, left: this.#left(), running }))
  }

  /** Lanes that found nothing to do have left, and then one of the others turned out to be slow. */
  #isHeldUp(): boolean {
    const last = this.#last()
    if (last === undefined || this.#unclaimed.length > 0 || performance.now() - this.#leftAt < minTimeLeftMs)
      return false
    const fair = this.#best / this.#running.size
    return last.received > 0 && last.rate * farSlower < fair && timeLeft(last) > 2 * minTimeLeftMs
  }

  #left(): number {
    return sizeOf(this.#running) + sizeOf(this.#unclaimed)
  }

  #add(count: number): void {
    // At first each counts as if it had to share the line.
    const rate = this.#best / (this.#running.size + count)
    for (let added = 0; added < count; added++) {
      const stretch = this.#claim(rate)
      if (stretch === undefined) return
      this.#start(stretch)
    }
  }
}

/** The rate of the last second or so, so that a lane that stands still is soon known for it. */
function measure(lane: Lane, now: number): void {
  const elapsedMs = now - lane.sample.at
  if (elapsedMs < measureMs) return
  const rate = (lane.received - lane.sample.received) / elapsedMs
  lane.rate = lane.rate === 0 ? rate : 0.6 * lane.rate + 0.4 * rate
  lane.sample = { at: now, received: lane.received }
}

function timeLeft({ start, end, rate }: Lane): number {
  return (end - start) / Math.max(rate, 1e-3)
}

function sizeOf(extents: Iterable<Extent>): number {
  return [...extents].reduce((sum, { start, end }) => sum + Math.max(0, end - start), 0)
}
