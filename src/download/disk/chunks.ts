// Bytes as they come from the network: in several buffers, which nobody has to join.

export function bytesOf(chunks: readonly Uint8Array[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.length, 0)
}

/** The first so many bytes. */
export function firstOf(chunks: readonly Buffer[], bytes: number): readonly Buffer[] {
  const taken: Buffer[] = []
  let left = bytes
  for (const chunk of chunks) {
    if (left === 0) break
    taken.push(chunk.subarray(0, left))
    left -= Math.min(left, chunk.length)
  }
  return taken
}

/** All but the first so many bytes. */
export function restOf(chunks: readonly Buffer[], bytes: number): readonly Buffer[] {
  let skip = bytes
  for (const [index, chunk] of chunks.entries()) {
    if (skip < chunk.length) return [chunk.subarray(skip), ...chunks.slice(index + 1)]
    skip -= chunk.length
  }
  return []
}
