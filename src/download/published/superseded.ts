// Versions of split models that a later one has superseded: nothing leads to them any more, but somebody may read them still.
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { firstPartOf, groupPath, manifestPath } from '../disk/file-names.ts'
import { removeQuietly } from '../disk/files.ts'
import type { Pruned } from '../partial/prune.ts'
import { type GroupNote, isOwnFolder, partPaths, readGroup } from './group.ts'
import { readManifest, speaksFor } from './manifest.ts'

/** Runs `remove` while nobody can begin to load the model whose first part is at `path`, or not at all. */
export type GuardRemoval = (path: string, remove: () => Promise<void>) => Promise<void>

/**
 * Removes what was superseded more than `olderThanMs` ago: since then a version's note leads elsewhere. Only what this
 * package has published, and nobody has changed. Returns what is gone.
 */
export async function pruneSuperseded(folder: string, olderThanMs: number, guard: GuardRemoval): Promise<Pruned[]> {
  const names = await readdir(folder).catch(() => [])
  const pruned: Pruned[] = []
  for (const name of names) {
    const firstName = firstPartOf(name)
    if (firstName === undefined) continue
    const first = join(folder, firstName)
    const [note, stats] = await Promise.all([readGroup(first), stat(groupPath(first)).catch(() => undefined)])
    if (note === undefined || note.isPending || stats === undefined) continue
    if (Date.now() - stats.mtimeMs < olderThanMs) continue
    for (const { paths, folder: own } of versions(first, note, folder, names)) {
      const [there] = await areOurs(paths, own, note)
      if (there === undefined) continue
      await guard(there, async () => {
        // Its server may have gone back to it meanwhile, and the note as well.
        const ours = await areOurs(paths, own, await readGroup(first))
        if (ours.length > 0) await remove(ours, paths, own, pruned)
      })
    }
  }
  return pruned
}

interface Version {
  readonly paths: readonly string[]
  /** Where it lies, if not flat. */
  readonly folder: string | undefined
}

/** Where versions other than the note's may be. */
function versions(first: string, note: GroupNote, folder: string, names: readonly string[]): Version[] {
  const { folder: current, ...flat } = note
  const others = names.filter((name) => name !== current && isOwnFolder(first, name))
  return [
    ...(current === undefined ? [] : [{ paths: partPaths(first, flat), folder: undefined }]),
    ...others.map((name) => ({ paths: partPaths(first, { ...flat, folder: name }), folder: join(folder, name) })),
  ]
}

/**
 * The parts that are there, if all of them are as they were published, together, and of another version than the note's; beside
 * them is nothing else. The others have no name yet, or none any more: who published or pruned them has died.
 */
async function areOurs(
  paths: readonly string[],
  own: string | undefined,
  note: GroupNote | undefined,
): Promise<readonly string[]> {
  const groups = new Set<string | undefined>()
  const there: string[] = []
  for (const path of paths) {
    const [manifest, stats] = await Promise.all([readManifest(path), stat(path).catch(() => undefined)])
    if (stats === undefined) continue
    if (!manifest || !stats.isFile() || !speaksFor(manifest, stats) || manifest.isAdopted) return []
    groups.add(manifest.group)
    there.push(path)
  }
  const [group] = groups
  if (note === undefined || groups.size !== 1 || group === undefined || group === note.id) return []
  if (own === undefined) return there
  const ours = new Set(paths.flatMap((path) => [path, manifestPath(path)]))
  const names = await readdir(own).catch(() => [])
  return own.endsWith(`.${group.slice(0, 8)}`) && names.every((name) => ours.has(join(own, name))) ? there : []
}

/** The first part goes first: llama.cpp can't begin with the others. */
async function remove(
  there: readonly string[],
  paths: readonly string[],
  own: string | undefined,
  pruned: Pruned[],
): Promise<void> {
  for (const path of there) {
    const { size } = await stat(path)
    // Windows lets nobody remove what somebody has loaded.
    const isGone = await rm(path).then(
      () => true,
      () => false,
    )
    if (!isGone) return
    pruned.push({ path, bytes: size })
  }
  // Also those of parts that never got their names.
  for (const path of paths) await removeQuietly(manifestPath(path))
  if (own !== undefined) await rm(own, { recursive: true, force: true }).catch(() => {})
}
