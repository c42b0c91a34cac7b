import { constants } from 'node:fs'
import { open, rename } from 'node:fs/promises'
import type { FilePlatform } from './file-platform.ts'

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export const posixFiles: FilePlatform = {
  pathKey: (realPath) => realPath,
  // Whoever has the old file open keeps it (rename(2)).
  replace: (from, to) => rename(from, to),
  isInUse: () => false,
  syncContent: (handle) => handle.sync(),
  syncFolder,
}
