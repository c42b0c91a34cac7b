// Whether a download fits, asked before its first byte: not after an hour of it.
import { statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ModelDownloadError } from './errors.ts'

/**
 * Throws `ERR_MODEL_DISK_FULL` when `bytes` more do not fit where `destination` will be. Says nothing about what others
 * write meanwhile: a disk that fills up all the same is told by the write that fails.
 */
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

/** As disk makers and download pages count: 1 GB is 1,000,000,000 bytes. */
function inUnits(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB', 'PB']
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3))
  return `${power === 0 ? bytes : (bytes / 1000 ** power).toFixed(1)} ${units[power]}`
}
