// Clears a models folder of what nobody will finish: partials, rejected files and drafts of this package's own.
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { onDisk, readSmallJson, removeQuietly } from '../disk/files.ts'
import { errnoOf } from '../errors.ts'
import { isClaimed } from './record.ts'

export interface Pruned {
  readonly path: string
  readonly bytes: number
}

// All end in an id of eight hexadecimal digits and what they are. Models, manifests and anybody else's files do not.
const ours =
  /^(.+\.[0-9a-f]{8})\.(partial(\.json|\.map|\.manifest)?|rejected(\.json)?)$|^(\..+\.os-mutex(?:-hub)?\.json\.[0-9a-f]{8})$/

/**
 * Removes what has not been touched for `olderThanMs`, by the file system's clock. Never what a living process claims. Returns what is
 * gone.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_FILE_SYSTEM` when the folder cannot be listed.
 */
export async function pruneFolder(folder: string, olderThanMs: number): Promise<Pruned[]> {
  const names = await onDisk('listing', folder, namesIn(folder))
  const groups = new Map<string, string[]>()
  for (const name of names) {
    const [, group, , , , draft] = ours.exec(name) ?? []
    const key = group ?? draft
    if (key !== undefined) groups.set(key, [...(groups.get(key) ?? []), name])
  }
  const pruned: Pruned[] = []
  for (const [key, members] of groups) pruned.push(...(await pruneGroup(folder, key, members, olderThanMs)))
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

async function pruneGroup(
  folder: string,
  key: string,
  members: readonly string[],
  olderThanMs: number,
): Promise<Pruned[]> {
  // The record goes last, as everywhere: until then whoever looks can tell what the rest is.
  const record = `${key}.partial.json`
  const inOrder = [...members.filter((name) => name !== record), ...members.filter((name) => name === record)]
  const files = await Promise.all(inOrder.map(async (name) => ({ name, stats: await lookAt(join(folder, name)) })))
  const newest = Math.max(...files.map(({ stats }) => stats?.mtimeMs ?? 0))
  // One from the future is new: a clock that was put back must not make it old.
  if (Date.now() - newest < olderThanMs) return []
  if (isClaimed(await readSmallJson(join(folder, record)))) return []
  const pruned: Pruned[] = []
  for (const { name, stats } of files) {
    const path = join(folder, name)
    await removeQuietly(path)
    if (stats && !(await lookAt(path))) pruned.push({ path, bytes: stats.size })
  }
  return pruned
}

function lookAt(path: string): Promise<{ size: number; mtimeMs: number } | undefined> {
  return stat(path).catch(() => undefined)
}
