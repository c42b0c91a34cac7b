// Listens to what node-llama-cpp logs about a load: "Failed to load model" has its reason nowhere else.
import type { Llama, LlamaLogLevel } from 'node-llama-cpp'

const MOST_LINES = 20

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
  loads = 0

  constructor(llama: Llama) {
    this.#llama = llama
    this.#userLogger = llama.logger
    this.#userLevel = llama.logLevel
    this.#logger = (level, message) => {
      if (level === 'error' || level === 'fatal') {
        this.#lines.push(message.trim())
        if (this.#lines.length > MOST_LINES) this.#lines.shift()
      }
      const unwanted = hidesErrors(this.#userLevel) && level !== this.#userLevel
      if (!unwanted) this.#userLogger(level, message)
    }
    llama.logger = this.#logger
    if (hidesErrors(this.#userLevel)) llama.logLevel = 'error' as LlamaLogLevel
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
    // llama.cpp's lines come through the event loop and may arrive just after the load's own rejection.
    await new Promise((resolve) => setImmediate(resolve))
    throw onFailure(error, tap.take())
  } finally {
    tap.loads--
    if (tap.loads === 0) {
      taps.delete(llama)
      tap.remove()
    }
  }
}

function hidesErrors(level: LlamaLogLevel): boolean {
  return level === 'disabled' || level === 'fatal'
}
