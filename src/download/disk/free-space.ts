// Whether a download fits, asked before its first byte: not after an hour of it. And its room is taken then, too.
import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { addon } from '../../mutex/addon.ts'
import { ModelDownloadError } from '../errors.ts'

/** Throws `ERR_MODEL_DISK_FULL` when `bytes` more do not fit where `destination` will be. Takes nothing: see `takeRoom`. */
export async function checkFreeSpace(destination: string, bytes: number): Promise<void> {
  const folder = dirname(destination)
  const disk = await statfs(folder).catch(() => undefined)
  // Some network file systems do not know their size.
  if (disk === undefined || disk.blocks === 0) return
  const free = disk.bavail * disk.bsize
  if (bytes <= free) return
  const message = `${destination} needs ${inUnits(bytes)} more, and only ${inUnits(free)} are free in ${folder}; free some and try again`
  throw new ModelDownloadError('ERR_MODEL_DISK_FULL', message, { path: folder })
}

/**
 * Takes the room for all `bytes` bytes of the file at `path`, which is there and open. From then on neither other programs nor other
 * downloads can fill the disk under it. Where the file system has no way to do that, the disk can fill up, and a write says so.
 * Throws `ERR_MODEL_DISK_FULL`, and `ERR_MODEL_FILE_SYSTEM` where no file can be as large (FAT32: 4 GB).
 */
export async function takeRoom(path: string, bytes: number): Promise<void> {
  const outcome = await addon.preallocate(path, bytes)
  const folder = dirname(path)
  if (outcome === 'noRoom') {
    const message = `There is no room for the ${inUnits(bytes)} of ${path} on the disk of ${folder}; free some and try again`
    throw new ModelDownloadError('ERR_MODEL_DISK_FULL', message, { path: folder })
  }
  if (outcome === 'tooLarge') {
    const message = `The file system of ${folder} takes no file of ${inUnits(bytes)}; choose a folder on another disk`
    throw new ModelDownloadError('ERR_MODEL_FILE_SYSTEM', message, { path: folder })
  }
}

/** As disk makers and download pages count: 1 GB is 1,000,000,000 bytes. */
function inUnits(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB']
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  return `${power === 0 ? bytes : (bytes / 1000 ** power).toFixed(1)} ${units[power]}`
}
