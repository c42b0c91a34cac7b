// Room for a download. Our own debris never is in its way: what nobody is writing goes before anybody is refused.
import { dirname } from 'node:path'
import { checkFreeSpace } from '../disk/free-space.ts'
import { dropLeftover } from './claim.ts'
import { findDebris } from './leftovers.ts'
import { pruneFolder } from './prune.ts'
import { dropRejected } from './rejected.ts'

/** Another model's partial may be resumed soon, and goes only when it was left so long ago. */
const othersOlderThanMs = 3_600_000
/** What is older than this goes after each download, whether there is room or not. */
const debrisOlderThanMs = 7 * 24 * 3_600_000

/**
 * Makes sure that so many bytes more fit where `destination` will be: this file's leftovers go first, then those of others.
 * What this process holds stays.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_DISK_FULL`
 */
export async function makeRoom(destination: string, bytes: number): Promise<void> {
  for (const drop of [dropDebris, () => pruneFolder(dirname(destination), othersOlderThanMs)]) {
    try {
      return await checkFreeSpace(destination, bytes)
    } catch {
      await drop(destination)
    }
  }
  await checkFreeSpace(destination, bytes)
}

/**
 * Removes what earlier downloads of this file have left, of whatever source. For when the file is there, or nothing of it can
 * be gone on with. Never fails.
 */
export async function dropDebris(destination: string): Promise<void> {
  await dropRejected(destination)
  for (const debris of await findDebris(destination).catch(() => [])) await dropLeftover(debris)
}

/** Removes what nobody will finish any more. Never fails: what stays is in nobody's way. */
export async function sweep(folder: string): Promise<void> {
  await pruneFolder(folder, debrisOlderThanMs).catch(() => {})
}
