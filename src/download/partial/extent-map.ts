// Which bytes of a partial are there. Two copies, written in turn, each with a sequence number and a checksum: whatever
// moment a kill finds, one of them is whole. A copy never claims a byte that was not written before it, so the older of
// the two is only less, never wrong.
//
// A copy, all numbers u64, little-endian: checksum (the first 8 bytes of the SHA-256 of the rest), sequence number, count
// of extents, then start and end of each.
import { createHash } from 'node:crypto'
import { type Extent, Extents } from './extents.ts'

/** Extents of one copy. There are hardly more than one for each connection; what does not fit is fetched again. */
const maxExtents = 62
const checksumBytes = 8
const headBytes = checksumBytes + 8 + 8
const copyBytes = 1024
export const mapBytes = 2 * copyBytes

/** The copy with this sequence number, and where in the map it goes. */
export function encodeMap(extents: Extents, sequence: number): { copy: Buffer; offset: number } {
  const kept = extents.ranges.slice(0, maxExtents)
  const copy = Buffer.alloc(copyBytes)
  copy.writeBigUInt64LE(BigInt(sequence), checksumBytes)
  copy.writeBigUInt64LE(BigInt(kept.length), checksumBytes + 8)
  for (const [index, { start, end }] of kept.entries()) {
    copy.writeBigUInt64LE(BigInt(start), headBytes + index * 16)
    copy.writeBigUInt64LE(BigInt(end), headBytes + index * 16 + 8)
  }
  checksum(copy).copy(copy)
  return { copy, offset: (sequence % 2) * copyBytes }
}

/** What the newest whole copy says, all within `total`. `undefined` where there is none. */
export function decodeMap(map: Buffer, total: number): { extents: Extents; sequence: number } | undefined {
  const copies = [map.subarray(0, copyBytes), map.subarray(copyBytes, mapBytes)]
    .map((copy) => decodeCopy(copy, total))
    .filter((copy) => copy !== undefined)
  return copies.sort((a, b) => b.sequence - a.sequence)[0]
}

function decodeCopy(copy: Buffer, total: number): { extents: Extents; sequence: number } | undefined {
  if (copy.length < copyBytes || !checksum(copy).equals(copy.subarray(0, checksumBytes))) return undefined
  const count = Number(copy.readBigUInt64LE(checksumBytes + 8))
  if (count > maxExtents) return undefined
  const ranges: Extent[] = []
  for (let index = 0; index < count; index++) {
    const start = Number(copy.readBigUInt64LE(headBytes + index * 16))
    const end = Number(copy.readBigUInt64LE(headBytes + index * 16 + 8))
    if (start >= end || end > total) return undefined
    ranges.push({ start, end })
  }
  return { extents: new Extents(ranges), sequence: Number(copy.readBigUInt64LE(checksumBytes)) }
}

function checksum(copy: Buffer): Buffer {
  return createHash('sha256').update(copy.subarray(checksumBytes)).digest().subarray(0, checksumBytes)
}
