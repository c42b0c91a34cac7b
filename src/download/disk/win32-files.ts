// Windows: a file that somebody has open or mapped cannot be replaced, unless he shares even its deletion; and virus scanners
// and indexers open every new file for a moment.
import { open, rename } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { errnoOf } from '../errors.ts'
import type { FilePlatform } from './file-platform.ts'
import { syncHandle } from './sync.ts'

/** 4.3 s in all. A scanner is done after some milliseconds, with a large file after a second or two. */
const retryDelaysMs = [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]

// libuv calls ERROR_ACCESS_DENIED EPERM and ERROR_SHARING_VIOLATION EBUSY.
const busy = new Set(['EPERM', 'EACCES', 'EBUSY'])

function isInUse(error: unknown): boolean {
  return busy.has(errnoOf(error) ?? '')
}

async function replace(from: string, to: string, signal: AbortSignal | undefined): Promise<void> {
  for (const delayMs of retryDelaysMs) {
    try {
      return await rename(from, to)
    } catch (error) {
      if (!isInUse(error)) throw error
    }
    await sleep(delayMs, undefined, signal && { signal })
  }
  await rename(from, to)
}

/** Through a handle of its own: FlushFileBuffers wants one that may write, and flushes what came by any other as well. */
async function syncContent(_: unknown, path: string): Promise<void> {
  const handle = await open(path, 'r+')
  try {
    await syncHandle(handle)
  } finally {
    await handle.close()
  }
}

export const win32Files: FilePlatform = {
  // NTFS compares names by their upper case. Where a folder was set to tell cases apart, two files share a key: that costs
  // time and not safety.
  pathKey: (realPath) => realPath.toUpperCase(),
  replace,
  isInUse,
  syncContent,
  // There is no way to do it, and no need: NTFS keeps a journal of its names.
  syncFolder: async () => {},
}
