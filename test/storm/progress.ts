// Whether a storm gets on.
import { setTimeout as sleep } from 'node:timers/promises'

export interface ProgressOptions {
  /** What nobody does when nothing goes on. */
  readonly what: string
  readonly hangSeconds: number
  /** Grows as long as something goes on. */
  readonly read: () => number
  readonly more?: () => string
}

/** Sees whether a count grows. */
export class Progress {
  readonly #options: ProgressOptions
  #grewAt = performance.now()
  count = 0

  constructor(options: ProgressOptions) {
    this.#options = options
  }

  /** Throws when the count has not grown for too long. */
  look(): void {
    const { what, hangSeconds, read, more = () => '' } = this.#options
    const count = read()
    if (count !== this.count) this.#grewAt = performance.now()
    this.count = count
    if (performance.now() - this.#grewAt > hangSeconds * 1_000)
      throw new Error(`For ${hangSeconds} s nobody ${what}${more()}`)
  }
}

/** Resolves and rejects as `work` does; rejects, too, when the work hangs. */
export async function watched<T>(work: Promise<T>, options: ProgressOptions): Promise<T> {
  const progress = new Progress(options)
  let isDone = false
  const done = work.finally(() => {
    isDone = true
  })
  done.catch(() => {})
  for (; !isDone; await sleep(2)) progress.look()
  return done
}
