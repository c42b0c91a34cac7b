// Copies of files that may have forty gigabytes: they can be called off, and say how far they are.
import { constants } from 'node:fs'
import { copyFile, link, open, stat, utimes } from 'node:fs/promises'
import { errnoOf } from '../errors.ts'
import { removeQuietly } from './files.ts'
import { syncHandle } from './sync.ts'

export interface CopyOptions {
  readonly signal?: AbortSignal | undefined
  readonly onBytes?: ((done: number) => void) | undefined
}

// Another file system, one without hard links, a file that has as many as it may have, or one of another user's. Or
// something has the name.
const notLinkable = new Set([
  'EXDEV',
  'EPERM',
  'EACCES',
  'ENOSYS',
  'ENOTSUP',
  'EOPNOTSUPP',
  'EMLINK',
  'EINVAL',
  'EEXIST',
])

/** A second name for the file, where it can have one at `to`. */
export async function isLinked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (notLinkable.has(errnoOf(error) ?? '')) return false
    throw error
  }
}

/** The same file under a new name, else the same bytes. */
export async function linkOrCopy(from: string, to: string, options: CopyOptions = {}): Promise<void> {
  if (!(await isLinked(from, to))) await copyFileDurably(from, to, options)
}

const blockBytes = 4 * 1024 * 1024

/** Makes a new file with the same bytes and mtime: one that shares its blocks where the file system can do that. */
async function copyFileDurably(from: string, to: string, options: CopyOptions = {}): Promise<void> {
  const { atime, mtime } = await stat(from)
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE)
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') throw error
    await removeQuietly(to)
    await copyBlocks(from, to, options)
  }
  const handle = await open(to, 'r+')
  try {
    await syncHandle(handle)
  } finally {
    await handle.close()
  }
  await utimes(to, atime, mtime)
}

async function copyBlocks(from: string, to: string, { signal, onBytes }: CopyOptions): Promise<void> {
  await using source = await open(from, 'r')
  await using target = await open(to, 'wx')
  const block = Buffer.allocUnsafe(blockBytes)
  for (let done = 0; ; ) {
    signal?.throwIfAborted()
    const { bytesRead } = await source.read(block, 0, block.length, done)
    if (bytesRead === 0) return
    for (let at = 0; at < bytesRead; ) {
      const { bytesWritten } = await target.write(block, at, bytesRead - at, done + at)
      at += bytesWritten
    }
    done += bytesRead
    onBytes?.(done)
  }
}
