import { setTimeout as sleep } from 'node:timers/promises'

export const maxChunkBytes = 64 * 1024
/** What timers come late by is caught up, as far as this. */
const latestMs = 50

/** Lets bytes through at a steady rate, whoever asks. */
export class Throttle {
  readonly #bytesPerSecond: number | undefined
  #freeAt = 0

  constructor(bytesPerSecond: number | undefined) {
    this.#bytesPerSecond = bytesPerSecond
  }

  /** Pieces small enough for about 50 a second. */
  smoothChunk(): number {
    return this.#bytesPerSecond === undefined ? maxChunkBytes : Math.max(1, Math.ceil(this.#bytesPerSecond / 50))
  }

  async take(bytes: number): Promise<void> {
    if (this.#bytesPerSecond === undefined) return
    const now = performance.now()
    this.#freeAt = Math.max(this.#freeAt, now - latestMs) + (bytes / this.#bytesPerSecond) * 1000
    await sleep(this.#freeAt - now)
  }
}
