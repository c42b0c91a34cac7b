// Listens to what node-llama-cpp logs about a load: "Failed to load model" has its reason nowhere else.
import type { Llama, LlamaLogLevel } from 'node-llama-cpp'

const MOST_LINES = 20
// llama.cpp's lines come through the event loop and arrive just after the load's own rejection: 1 to 2 ms on Linux, 15 ms measured on a
// busy machine. Once a process has made several Llama instances they don't come at all.
const PATIENCE_MS = 250

/**
 * The error lines of one Llama instance, collected while any load of the gate runs on it. All those loads share one tap,
 * so that the logger is replaced once and put back once, whichever load ends last. Whose lines are whose follows from
 * node-llama-cpp running one load at a time per instance: what was logged since the last one settled is this one's.
 */
class LogTap {
  readonly #llama: Llama
  readonly #userLogger: Llama['logger']
  readonly #userLevel: LlamaLogLevel
  readonly #logger: Llama['logger']
  #lines: string[] = []
  #hear: (() => void) | undefined
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

/** Runs one load. When it fails, `onFailure` gets its error and the error lines that were logged, and makes the error to throw. */
export async function withErrorLog<T>(
  llama: Llama,
  load: () => Promise<T>,
  onFailure: (error: unknown, lines: readonly string[]) => unknown,
): Promise<T> {
  const tap = taps.get(llama) ?? new LogTap(llama)
  taps.set(llama, tap)
  tap.loads++
  try {
    const result = await load()
    tap.take()
    return result
  } catch (error) {
    await tap.untilTold()
    throw onFailure(error, tap.take())
  } finally {
    tap.loads--
    if (tap.loads === 0) {
      taps.delete(llama)
      tap.remove()
    }
  }
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

function hidesErrors(level: LlamaLogLevel): boolean {
  return level === 'disabled' || level === 'fatal'
}
