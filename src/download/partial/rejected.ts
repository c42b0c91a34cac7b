// Files that came whole and are wrong: kept beside the model as `<file>.<id>.rejected`, with the reason in `….rejected.json`, so that
// somebody can look at what the server sent. One for each model, until a right one is published or `prune` is called.
import { readdir, rename, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { removeQuietly } from '../disk/files.ts'

export interface Rejection {
  /** For people. */
  readonly reason: string
  /** Where it came from, without credentials and query. */
  readonly source: string
  readonly sha256: string
}

/** Moves a partial there. Returns its new path, or `undefined` where it could not be moved and was removed. */
export async function quarantine(
  destination: string,
  { partial, id, rejection }: { partial: string; id: string; rejection: Rejection },
): Promise<string | undefined> {
  await dropRejected(destination)
  const path = `${destination}.${id}.rejected`
  try {
    await writeFile(`${path}.json`, JSON.stringify({ version: 1, ...rejection, rejectedAt: Date.now() }), {
      flag: 'wx',
    })
    await rename(partial, path)
    return path
  } catch {
    await removeQuietly(partial)
    await removeQuietly(`${path}.json`)
    return undefined
  }
}

/** Never fails: what stays is in nobody's way. */
export async function dropRejected(destination: string): Promise<void> {
  const folder = dirname(destination)
  const start = `${basename(destination)}.`
  for (const name of await readdir(folder).catch(() => [])) {
    const isOne = name.startsWith(start) && /^[0-9a-f]{8}\.rejected(\.json)?$/.test(name.slice(start.length))
    if (isOne) await removeQuietly(join(folder, name))
  }
}
