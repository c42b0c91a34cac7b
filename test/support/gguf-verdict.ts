// The verdict on a GGUF, and whether it was come to within the file and within bounds.
import assert from 'node:assert/strict'
import type { FileHandle } from 'node:fs/promises'
import { whyBadGguf } from '#download/gguf/structure'

/** So many bytes each read gives at most, in turns: a real one may give fewer than asked for, too. */
export type Pieces = readonly number[]

const blockBytes = 128 * 1024

/** `size`: what the file is said to have. Throws where something else than a verdict comes of it. */
export async function verdictOn(
  content: Uint8Array,
  size = content.length,
  pieces: Pieces = [],
): Promise<string | undefined> {
  let reads = 0
  let bytesInAll = 0
  const read = async (buffer: Uint8Array, offset: number, length: number, position: number) => {
    assert.ok(position >= 0 && position + length <= size, `${length} bytes at ${position} of ${size}`)
    assert.ok(offset >= 0 && length > 0 && offset + length <= buffer.length, 'outside of the buffer')
    assert.ok(buffer.length <= blockBytes, `a buffer of ${buffer.length} bytes`)
    const most = pieces[reads++ % pieces.length] ?? length
    const bytes = content.subarray(position, position + Math.min(length, most))
    buffer.set(bytes, offset)
    bytesInAll += bytes.length
    return { bytesRead: bytes.length, buffer }
  }
  const found = await whyBadGguf({ read } as unknown as FileHandle, size)
  assert.ok(bytesInAll <= size, `${bytesInAll} bytes were read of ${size}`)
  if (found !== undefined) assert.match(found, /^(it|its|the name of its) .{5,600}$/s)
  return found
}
