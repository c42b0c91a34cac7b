// SHA-256 over bytes that are on disk already. What streams in is hashed by the partial as it is written.
import type { Hash } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { onDisk } from './file-system.ts'

export interface HashOptions {
  readonly signal?: AbortSignal | undefined
  readonly onBytes?: ((done: number) => void) | undefined
}

// Small enough that one update stays well under a millisecond or two of the event loop.
const blockBytes = 512 * 1024

/** Feeds the first `bytes` of a file to `hash`; returns how many there were, which is fewer only if the file ends. */
export async function hashFrom(
  handle: FileHandle,
  path: string,
  bytes: number,
  hash: Hash,
  options: HashOptions,
): Promise<number> {
  const block = Buffer.allocUnsafe(Math.min(blockBytes, Math.max(bytes, 1)))
  let done = 0
  while (done < bytes) {
    options.signal?.throwIfAborted()
    const { bytesRead } = await onDisk(
      'reading',
      path,
      handle.read(block, 0, Math.min(block.length, bytes - done), done),
    )
    if (bytesRead === 0) break
    hash.update(block.subarray(0, bytesRead))
    done += bytesRead
    options.onBytes?.(done)
  }
  return done
}
