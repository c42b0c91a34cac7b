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
      if (await areOurs(paths, own, note)) await guard(paths[0] as string, () => remove(paths, own, pruned))
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

/** All parts are as they were published, together, and as another version than the note's; beside them is nothing else. */
async function areOurs(paths: readonly string[], own: string | undefined, note: GroupNote): Promise<boolean> {
  const groups = new Set<string | undefined>()
  for (const path of paths) {
    const [manifest, stats] = await Promise.all([readManifest(path), stat(path).catch(() => undefined)])
    if (!manifest || !stats?.isFile() || !speaksFor(manifest, stats) || manifest.isAdopted) return false
    groups.add(manifest.group)
  }
  const [group] = groups
  if (groups.size !== 1 || group === undefined || group === note.id) return false
  if (own === undefined) return true
  const ours = new Set(paths.flatMap((path) => [path, manifestPath(path)]))
  const there = await readdir(own).catch(() => [])
  return own.endsWith(`.${group.slice(0, 8)}`) && there.every((name) => ours.has(join(own, name)))
}

/** The first part goes first: llama.cpp can't begin with the others. */
async function remove(paths: readonly string[], own: string | undefined, pruned: Pruned[]): Promise<void> {
  for (const path of paths) {
    const { size } = await stat(path)
    // Windows lets nobody remove what somebody has loaded.
    const isGone = await rm(path).then(
      () => true,
      () => false,
    )
    if (!isGone) return
    await removeQuietly(manifestPath(path))
    pruned.push({ path, bytes: size })
  }
  if (own !== undefined) await rm(own, { recursive: true, force: true }).catch(() => {})
}
