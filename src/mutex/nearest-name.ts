// "Did you mean …?": which of our names a misspelt one was probably meant to be.

/** Longer words are no misspelling of an option, and comparing them would only take time. */
const MAX_WORD = 64

/**
 * The known name that is nearest to `given`, if any is near: another spelling of it (`timeout_ms`, `TimeoutMs`), a part
 * of it or more than it (`dir`, `timeout`), or with about one wrong letter in three (`purpsoe`).
 */
export function nearestName(given: string, known: Iterable<string>): string | undefined {
  const word = folded(given)
  if (word === '' || word.length > MAX_WORD) return undefined
  let nearest: string | undefined
  let least = Number.POSITIVE_INFINITY
  for (const name of known) {
    const other = folded(name)
    const distance = editDistance(word, other)
    if (distance < least && (isPart(word, other) || distance <= Math.max(word.length, other.length) / 3)) {
      nearest = name
      least = distance
    }
  }
  return nearest
}

function folded(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '')
}

function isPart(one: string, other: string): boolean {
  const [short, long] = one.length < other.length ? [one, other] : [other, one]
  return short.length >= 3 && long.includes(short)
}

/** How many letters must be put in, left out, replaced or swapped with their neighbour (optimal string alignment). */
function editDistance(one: string, other: string): number {
  let beforeLast: number[] = []
  let last = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (let i = 1; i <= one.length; i++) {
    const row = [i]
    for (let j = 1; j <= other.length; j++) {
      const isSame = one[i - 1] === other[j - 1]
      let distance = Math.min(at(last, j) + 1, at(row, j - 1) + 1, at(last, j - 1) + (isSame ? 0 : 1))
      const isSwapped = i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1]
      if (isSwapped) distance = Math.min(distance, at(beforeLast, j - 2) + 1)
      row.push(distance)
    }
    beforeLast = last
    last = row
  }
  return at(last, other.length)
}

function at(row: readonly number[], index: number): number {
  return row[index] ?? Number.POSITIVE_INFINITY
}
