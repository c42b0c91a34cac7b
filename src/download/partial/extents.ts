// Which bytes of a file are there: half-open ranges in order, none touching another.

export interface Extent {
  readonly start: number
  /** The first byte that is not part of it. */
  readonly end: number
}

export class Extents {
  #ranges: Extent[] = []

  constructor(ranges: Iterable<Extent> = []) {
    for (const { start, end } of ranges) this.add(start, end)
  }

  /** In order; a copy. */
  get ranges(): readonly Extent[] {
    return [...this.#ranges]
  }

  /** How many bytes are in it. */
  get bytes(): number {
    return this.#ranges.reduce((sum, { start, end }) => sum + end - start, 0)
  }

  /** Behind its last byte; 0 where there is none. */
  get end(): number {
    return this.#ranges.at(-1)?.end ?? 0
  }

  /** How far it goes from 0 on without a gap. */
  get frontier(): number {
    const first = this.#ranges[0]
    return first?.start === 0 ? first.end : 0
  }

  add(start: number, end: number): void {
    if (start >= end) return
    const before = this.#ranges.filter((range) => range.end < start)
    const after = this.#ranges.filter((range) => range.start > end)
    const joined = this.#ranges.slice(before.length, this.#ranges.length - after.length)
    const merged = {
      start: Math.min(start, joined[0]?.start ?? start),
      end: Math.max(end, joined.at(-1)?.end ?? end),
    }
    this.#ranges = [...before, merged, ...after]
  }

  /** What is missing of the bytes from 0 to `total`, in order. */
  missing(total: number): Extent[] {
    const gaps: Extent[] = []
    let at = 0
    for (const { start, end } of this.#ranges) {
      if (start > at) gaps.push({ start: at, end: Math.min(start, total) })
      at = end
    }
    if (at < total) gaps.push({ start: at, end: total })
    return gaps.filter(({ start, end }) => start < end)
  }
}
