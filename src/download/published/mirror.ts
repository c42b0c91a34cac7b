// The same bytes at a second path: by a hard link where that can be, else by a copy that shares its blocks or is a real one.
import { constants } from 'node:fs'
import { copyFile, link, mkdir, open, stat, utimes } from 'node:fs/promises'
import { dirname } from 'node:path'
import { onDisk, randomId, removeQuietly } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { errnoOf } from '../errors.ts'

/** Whether `to` is the file at `path`, or a copy that was made of it: of its size and mtime. */
export async function isMirrored(path: string, to: string): Promise<boolean> {
  const [file, mirror] = await Promise.all([path, to].map((name) => stat(name).catch(() => undefined)))
  if (!file?.isFile() || !mirror?.isFile()) return false
  if (file.ino === mirror.ino && file.dev === mirror.dev) return true
  // A copy's mtime is set in seconds, with fractions, and read back rounded.
  return file.size === mirror.size && Math.abs(file.mtimeMs - mirror.mtimeMs) < 1
}

/**
 * Puts the published file at `to` as well, in place of what may be there, in one step. Call it under the lock that guards `path`.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_FILE_SYSTEM`, `ERR_MODEL_DISK_FULL`
 */
export async function mirror(path: string, to: string, signal: AbortSignal | undefined): Promise<void> {
  if (await isMirrored(path, to)) return
  const folder = dirname(to)
  await onDisk('creating', folder, mkdir(folder, { recursive: true }))
  const draft = `${to}.${randomId()}.mirror`
  try {
    await onDisk('writing', draft, linkOrCopy(path, draft))
    await onDisk('publishing', to, filePlatform.replace(draft, to, signal))
    await onDisk('syncing', folder, filePlatform.syncFolder(folder))
  } finally {
    await removeQuietly(draft)
  }
}

// Another file system, one without hard links, a file that has as many as it may have, or one of another user's.
const notLinkable = new Set(['EXDEV', 'EPERM', 'EACCES', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'EINVAL'])

async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    return await link(from, to)
  } catch (error) {
    if (!notLinkable.has(errnoOf(error) ?? '')) throw error
  }
  const { atime, mtime } = await stat(from)
  await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)
  await utimes(to, atime, mtime)
  const handle = await open(to, 'r')
  try {
    await filePlatform.syncContent(handle, to)
  } finally {
    await handle.close()
  }
}
