import { constants } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import { errnoOf } from '../errors.ts'
import type { FilePlatform } from './file-platform.ts'
import { syncHandle } from './sync.ts'

/**
 * A file system that can't sync a folder says so in one of these ways: CIFS and some by FUSE EINVAL, ENOTSUP, EBADF or
 * ENOSYS. EACCES: who may write in a folder and not read it can't open it. The file itself is synced all the same; what
 * a power loss may cost is its name. Other errors, EIO above all, are real.
 */
const unsyncable = new Set(['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'EBADF', 'ENOSYS', 'EACCES'])

async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY)
    try {
      await syncHandle(handle)
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (!unsyncable.has(errnoOf(error) ?? '')) throw error
  }
}

export const posixFiles: FilePlatform = {
  pathKey: (realPath) => realPath,
  // Whoever has the old file open keeps it (rename(2)).
  replace: (from, to) => rename(from, to),
  isInUse: () => false,
  syncContent: syncHandle,
  syncFolder,
}
