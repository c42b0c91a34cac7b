// Time as it passes for somebody who waits for a server: that in which the machine slept does not count.

/** Whoever looks at least every second and sees more pass was asleep. */
const longestMs = 2_000

export class AwakeTime {
  #lookedAt = performance.now()

  /** Since the last look, in milliseconds. */
  passed(): number {
    const now = performance.now()
    const passedMs = Math.min(now - this.#lookedAt, longestMs)
    this.#lookedAt = now
    return passedMs
  }
}
