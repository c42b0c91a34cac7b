// Listens to what node-llama-cpp logs about a load: "Failed to load model" has its reason nowhere else.
import { abortable } from '../download/disk/abortable.ts'
import type { Llama, LlamaLogLevel } from './node-llama-cpp.ts'

const MOST_LINES = 20
// llama.cpp's lines come through the event loop and arrive just after the load's own rejection: 1 to 2 ms on Linux, 15
// ms measured on a busy machine. Once a process has made several Llama instances they don't come at all.
const PATIENCE_MS = 250

/**
 * The error lines of one Llama instance, collected while any load of the gate runs on it. All those loads share one
 * tap, so that the logger is replaced once and put back once, whichever load ends last. Whose lines are whose follows
 * from their running one after the other: what was logged since the last one's lines were taken is this one's.
 * node-llama-cpp itself runs one load at a time per instance, but it starts the next as soon as one has failed, which
 * is before that one's lines are here.
 */
class LogTap {
  readonly #llama: Llama
  readonly #userLogger: Llama['logger']
  readonly #userLevel: LlamaLogLevel
  readonly #logger: Llama['logger']
  #lines: string[] = []
  #hear: (() => void) | undefined
  #last: Promise<unknown> = Promise.resolve()
  loads = 0

  constructor(llama: Llama) {
    this.#llama = llama
    this.#userLogger = llama.logger
    this.#userLevel = llama.logLevel
    this.#logger = (level, message) => {
      if (level === 'error' || level === 'fatal') {
        this.#lines.push(message.trim())
        if (this.#lines.length > MOST_LINES) this.#lines.shift()
        this.#hear?.()
      }
      const unwanted = hidesErrors(this.#userLevel) && level !== this.#userLevel
      if (!unwanted) this.#userLogger(level, message)
    }
    llama.logger = this.#logger
    if (hidesErrors(this.#userLevel)) llama.logLevel = 'error' as LlamaLogLevel
  }

  /** Runs `work` when all that came before it has ended. Rejects with the signal's reason while it waits. */
  async inTurn<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    const before = this.#last
    let end = () => {}
    const mine = new Promise<void>((resolve) => {
      end = resolve
    })
    // One that gives up waiting does not let the next one overtake.
    this.#last = before.then(() => mine)
    try {
      await abortable(before, signal)
      return await work()
    } finally {
      end()
    }
  }

  /** Resolves when there are error lines to take; at the latest after some time. */
  async untilTold(): Promise<void> {
    await turn()
    if (this.#lines.length > 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE_MS)
      this.#hear = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#hear = undefined
    await turn() // the other lines of the same moment
  }

  take(): string[] {
    const lines = this.#lines
    this.#lines = []
    return lines
  }

  /** Leaves alone what somebody else has set in the meantime. */
  remove(): void {
    if (this.#llama.logger === this.#logger) this.#llama.logger = this.#userLogger
    if (hidesErrors(this.#userLevel) && this.#llama.logLevel === 'error' && !this.#llama.disposed) {
      this.#llama.logLevel = this.#userLevel
    }
  }
}

const taps = new WeakMap<Llama, LogTap>()

export interface TappedLoad<T> {
  readonly load: () => Promise<T>
  readonly signal: AbortSignal | undefined
  /** Gets the error of a load that failed and the error lines that were logged, and makes the error to throw. */
  readonly onFailure: (error: unknown, lines: readonly string[]) => unknown
}

/** Runs one load, after those of this instance that came before it. */
export async function withErrorLog<T>(llama: Llama, { load, signal, onFailure }: TappedLoad<T>): Promise<T> {
  const tap = taps.get(llama) ?? new LogTap(llama)
  taps.set(llama, tap)
  tap.loads++
  try {
    return await tap.inTurn(async () => {
      try {
        const result = await load()
        tap.take()
        return result
      } catch (error) {
        if (!signal?.aborted) await tap.untilTold()
        throw onFailure(error, tap.take())
      }
    }, signal)
  } finally {
    tap.loads--
    if (tap.loads === 0) {
      taps.delete(llama)
      tap.remove()
    }
  }
}

/** llama.cpp puts the reason in its own line, behind a mark; lines before and after only say where it happened. */
export function loggedReason(lines: readonly string[], mark: string): string | undefined {
  const marked = lines.findLast((line) => line.includes(mark))
  return marked?.slice(marked.indexOf(mark) + mark.length).trim() ?? lines.at(-1)
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function hidesErrors(level: LlamaLogLevel): boolean {
  return level === 'disabled' || level === 'fatal'
}
