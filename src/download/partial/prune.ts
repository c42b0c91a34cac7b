// Clears a models folder of what nobody will finish: partials, rejected files and drafts of this package's own. A name alone
// proves nothing: what does not bear a record of ours that can be read is left alone.
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type OwnName, ownNameOf, partialPaths } from '../disk/file-names.ts'
import { onDisk, readSmallJson, removeQuietly } from '../disk/files.ts'
import { errnoOf } from '../errors.ts'
import { dropLeftover } from './claim.ts'
import { readRecord } from './record.ts'
import { isRejection } from './rejected.ts'

export interface Pruned {
  readonly path: string
  readonly bytes: number
}

/**
 * Removes what has not been touched for `olderThanMs`, by the file system's clock. Never what somebody is writing. Returns what
 * is gone.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_FILE_SYSTEM` when the folder cannot be listed.
 */
export async function pruneFolder(folder: string, olderThanMs: number): Promise<Pruned[]> {
  const pruned: Pruned[] = []
  for (const name of await onDisk('listing', folder, namesIn(folder))) {
    const own = ownNameOf(name)
    if (own !== undefined) pruned.push(...(await prune(folder, name, own, olderThanMs)))
  }
  return pruned
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return []
    throw error
  }
}

async function prune(folder: string, name: string, own: OwnName, olderThanMs: number): Promise<Pruned[]> {
  const path = join(folder, name)
  switch (own.kind) {
    case 'record':
      return prunePartial(join(folder, own.destination), own.id, olderThanMs)
    case 'rejected':
      return (await isRejection(path)) ? removeOld([path], olderThanMs) : []
    case 'draft': {
      const { version } = (await readSmallJson(path)) ?? {}
      return typeof version === 'number' ? removeOld([path], olderThanMs) : []
    }
    // These go with their record.
    case 'partial':
    case 'lock':
      return []
  }
}

async function prunePartial(destination: string, id: string, olderThanMs: number): Promise<Pruned[]> {
  const { data, record } = partialPaths(destination, id)
  // An empty one is of whoever was killed between making and locking it.
  if ((await readRecord(record)) === undefined) return []
  const files = await lookAt([data, record])
  if (isYoung(files, olderThanMs) || !(await dropLeftover({ destination, id }))) return []
  return gone(files)
}

async function removeOld(paths: readonly string[], olderThanMs: number): Promise<Pruned[]> {
  const files = await lookAt(paths)
  if (isYoung(files, olderThanMs)) return []
  for (const path of paths) await removeQuietly(path)
  return gone(files)
}

interface File {
  readonly path: string
  readonly bytes: number
  readonly mtimeMs: number
}

async function lookAt(paths: readonly string[]): Promise<File[]> {
  const files = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ size, mtimeMs }) => ({ path, bytes: size, mtimeMs }),
        () => undefined,
      ),
    ),
  )
  return files.filter((file) => file !== undefined)
}

/** One from the future is young: a clock that was put back must not make it old. */
function isYoung(files: readonly File[], olderThanMs: number): boolean {
  return Date.now() - Math.max(...files.map(({ mtimeMs }) => mtimeMs)) < olderThanMs
}

async function gone(files: readonly File[]): Promise<Pruned[]> {
  const left = await lookAt(files.map(({ path }) => path))
  return files
    .filter(({ path }) => !left.some((file) => file.path === path))
    .map(({ path, bytes }) => ({ path, bytes }))
}
