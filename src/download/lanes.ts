// Fills a partial in over several connections: lanes. Each has a stretch of the file of its own, asks for it with one request
// and writes what comes. Stretches are given out in the file's order and are a few seconds long, so that what is hashed from
// the front never falls far behind; a lane that finds none left takes half of the longest that is still under way.
//
// All of it runs on one thread, and no stretch is in two lanes at once. A stretch may become shorter while its lane is waiting
// for bytes or for the disk, but only behind `at`, which a lane moves before it writes; so no byte is fetched twice but for
// what is on its way when a lane's request is longer than its stretch has become.
import { setMaxListeners } from 'node:events'
import { bytesOf, firstOf } from './disk/chunks.ts'
import { ModelDownloadError } from './errors.ts'
import { isTransient, type RemoteFile, UnusableRangeError } from './http/remote.ts'
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
  /** The error for an answer without a byte of the stretch that it was asked for. */
  readonly empty: (stretch: Extent) => Error
  /** The error for a body that goes on behind `total`. */
  readonly tooLong: () => Error
}

interface Lane extends Extent {
  /** Where its next byte goes. */
  start: number
  end: number
}

const MiB = 1024 * 1024
/** A stretch is about so long, at the rate that a lane has. */
const stretchMs = 2_000
const [minStretchBytes, maxStretchBytes] = [4 * MiB, 64 * MiB]
/** Less than this, or than what comes in this time, is not taken from another lane: what is on its way to that one is lost. */
const [minStolenBytes, minStolenMs] = [MiB, 500]
/** How long the rate is measured before lanes are added. */
const lookMs = 200
const lookEveryMs = 50
/** In bytes a millisecond. One connection that brings as much is not what holds it up. */
const enough = 150_000
/** Doubling the lanes has to bring so much, or the line is full. */
const worthwhileGain = 1.15
/** With less time to go, another connection comes too late. */
const tooLateMs = 1_500
/** A lane that brought so much before it broke may try again at once. */
const healthyBytes = MiB

export class Lanes {
  readonly #options: LanesOptions
  readonly #ending = new AbortController()
  readonly #signal: AbortSignal
  readonly #running = new Set<Lane>()
  readonly #ends: Promise<void>[] = []
  #unclaimed: Extent[]
  #most: number
  #failure: { readonly error: unknown } | undefined
  #received = 0
  #look: { readonly at: number; readonly received: number; readonly rate: number } | undefined

  constructor(options: LanesOptions) {
    this.#options = options
    this.#unclaimed = [...options.missing]
    this.#most = options.total === undefined ? 1 : options.connections
    this.#signal = options.signal ? AbortSignal.any([options.signal, this.#ending.signal]) : this.#ending.signal
    setMaxListeners(0, this.#signal)
  }

  /**
   * Resolves when no byte is missing. `first` answers the first missing stretch. Rejects with the first error that can't be
   * got around, when no lane is under way any more, so no write either.
   */
  async run(first: RemoteFile): Promise<void> {
    const stretch = this.#unclaimed.shift()
    if (stretch === undefined) return first.discard()
    this.#start({ ...stretch }, first)
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

  #start(lane: Lane, answer?: RemoteFile): void {
    this.#running.add(lane)
    const end = this.#drive(lane, answer)
    this.#ends.push(end.catch((error: unknown) => this.#onError(lane, error)))
  }

  async #drive(lane: Lane, first: RemoteFile | undefined): Promise<void> {
    let answer = first
    for (;;) {
      const before = lane.start
      let isAll = false
      try {
        answer ??= await this.#options.open({ ...lane }, this.#signal)
        await this.#receive(lane, answer)
        // One that did not tell where it ends has told it by ending.
        isAll = answer.end === undefined
      } catch (error) {
        const isWorthIt = this.#options.total !== undefined && lane.start - before >= healthyBytes
        if (!isTransient(error) || !isWorthIt || this.#failure) throw error
      }
      answer = undefined
      if (isAll) return this.#leave(lane)
      if (lane.start < lane.end) {
        // Also an honest server may end early: it may answer a range with a shorter one.
        if (lane.start === before) throw this.#options.empty(lane)
        continue
      }
      const next = this.#claim()
      if (next === undefined) return this.#leave(lane)
      lane.start = next.start
      lane.end = next.end
    }
  }

  async #receive(lane: Lane, answer: RemoteFile): Promise<void> {
    const { total = Number.POSITIVE_INFINITY, write, writesAtOnce, onReceived, tooLong } = this.#options
    const writes = new Set<Promise<void>>()
    const discard = () => answer.discard()
    this.#ending.signal.addEventListener('abort', discard, { once: true })
    try {
      for await (const chunks of answer.body) {
        this.#throwFailure()
        const bytes = bytesOf(chunks)
        const position = lane.start
        if (position + bytes > total) throw tooLong()
        this.#received += bytes
        onReceived(bytes)
        const wanted = Math.max(0, Math.min(bytes, lane.end - position))
        lane.start = position + wanted
        // Its failure is heard at once, for its lane may have long to wait for the next bytes.
        const writing = write(position, firstOf(chunks, wanted))
          .catch((error: unknown) => this.#fail(error))
          .finally(() => writes.delete(writing))
        writes.add(writing)
        if (writes.size >= writesAtOnce) await Promise.race(writes)
        // Not where the body ends as well: its connection can be used again then.
        if (lane.start >= lane.end && lane.end !== answer.end) break
      }
      await Promise.all(writes)
      this.#throwFailure()
    } finally {
      this.#ending.signal.removeEventListener('abort', discard)
      answer.discard()
      await Promise.all(writes)
    }
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
  }

  /** Its rest is anybody's again. Without any lane left, or where it is of no use to go on, the first error is all's. */
  #onError(lane: Lane, error: unknown): void {
    this.#leave(lane)
    const others = this.#running.size
    if (lane.start < lane.end) this.#giveUp({ start: lane.start, end: lane.end })
    const isRefusal = error instanceof ModelDownloadError && error.code === 'ERR_MODEL_HTTP_STATUS'
    const isOurs = isTransient(error) || isRefusal || error instanceof UnusableRangeError
    // A server that refuses one connection more, in whatever words, has told how many it likes.
    if (isOurs && others > 0 && !this.#failure) {
      this.#most = error instanceof UnusableRangeError ? 0 : others
      return
    }
    this.#fail(error)
  }

  #giveUp(stretch: Extent): void {
    this.#unclaimed = [...this.#unclaimed, stretch].sort((a, b) => a.start - b.start)
  }

  /** The next stretch that nobody has, or half of the longest. */
  #claim(): Extent | undefined {
    const length = this.#stretchBytes()
    if (this.#unclaimed.length === 0) this.#split(length)
    const next = this.#unclaimed.shift()
    if (next === undefined || next.end - next.start <= length) return next
    const end = next.start + length
    this.#unclaimed.unshift({ start: end, end: next.end })
    return { start: next.start, end }
  }

  #split(length: number): void {
    const longest = [...this.#running].sort((a, b) => b.end - b.start - (a.end - a.start))[0]
    const left = longest === undefined ? 0 : longest.end - longest.start
    const least = Math.max(minStolenBytes, this.#ratePerLane() * minStolenMs)
    if (longest === undefined || left < 2 * least) return
    const middle = longest.start + Math.min(length, Math.floor(left / 2))
    this.#unclaimed.push({ start: middle, end: longest.end })
    longest.end = middle
  }

  #stretchBytes(): number {
    return Math.min(maxStretchBytes, Math.max(minStretchBytes, Math.round(this.#ratePerLane() * stretchMs)))
  }

  #ratePerLane(): number {
    return (this.#look?.rate ?? 0) / Math.max(1, this.#running.size)
  }

  /** Adds lanes as long as that makes it faster. Rates are in bytes a millisecond. */
  #grow(): void {
    const now = performance.now()
    const look = this.#look
    if (look === undefined) {
      this.#look = { at: now, received: this.#received, rate: 0 }
      return
    }
    const elapsedMs = now - look.at
    if (elapsedMs < lookMs) return
    const rate = (this.#received - look.received) / elapsedMs
    this.#look = { at: now, received: this.#received, rate }
    if (this.#running.size >= this.#most) return
    if (look.rate > 0 && rate < look.rate * worthwhileGain) {
      this.#most = this.#running.size
      return
    }
    if (rate >= enough || this.#left() < rate * tooLateMs) return
    this.#add(Math.min(this.#running.size === 1 ? 3 : this.#running.size, this.#most - this.#running.size))
  }

  #left(): number {
    return [...this.#running, ...this.#unclaimed].reduce((sum, { start, end }) => sum + Math.max(0, end - start), 0)
  }

  #add(count: number): void {
    for (let added = 0; added < count; added++) {
      const stretch = this.#claim()
      if (stretch === undefined) return
      this.#start({ ...stretch })
    }
  }
}
