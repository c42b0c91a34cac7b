// The parts of a split model belong together: they are published as one, and one version never takes another's place file by
// file, under somebody who is reading them.
//
// - The first version lies flat beside the other models, as node-llama-cpp wants it: parts 2 to n get their names first,
//   part 1 last. Before that the group's note says what all parts are, and that they are not all there yet: a crash between is
//   completed from the partials, without the network.
// - Each later version has a folder of its own, `<stem>.<8 digits of the group's hash>/`, which appears by one rename, with
//   all parts in it. Then the note leads there. Whoever has read the old note goes on with the old files; `prune` removes
//   them later.
//
// A version that comes back, since its server went back to it, is published by the note alone: it lies where it was.
//
// The note, `.<first part>.os-mutex-group.json`, is replaced in one step, so that every reader sees one version or the other.
import { createHash } from 'node:crypto'
import { link, mkdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { linkOrCopy } from '../disk/copy.ts'
import type { HashOptions } from '../disk/file-hash.ts'
import { groupPath } from '../disk/file-names.ts'
import { onDisk, readSmallJson } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { Claim, dropLeftover } from '../partial/claim.ts'
import { Extents } from '../partial/extents.ts'
import { findLeftovers, newRecord } from '../partial/leftovers.ts'
import type { ResolvedSource } from '../source/parse.ts'
import {
  type Manifest,
  noteManifest,
  readManifest,
  satisfies,
  speaksFor,
  writeJson,
  writeManifest,
} from './manifest.ts'
import { asPublished, fromCache, type PublishedFile, verifyPublished } from './verify.ts'

export interface GroupNote {
  readonly version: number
  /** SHA-256 of the parts' hashes. */
  readonly id: string
  /** Where they are, within the models folder; absent: in it. */
  readonly folder?: string
  readonly parts: readonly GroupPart[]
  /** Some of them may not have their names yet. */
  readonly isPending?: boolean
}

interface GroupPart {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}

function groupId(hashes: readonly string[]): string {
  return createHash('sha256').update(hashes.join('\n')).digest('hex')
}

/** `first`: the flat path of the first part. `undefined` when there is none that makes sense. */
export async function readGroup(first: string): Promise<GroupNote | undefined> {
  const value = await readSmallJson(groupPath(first))
  const isNote =
    typeof value?.version === 'number' &&
    value.version >= 1 &&
    typeof value.id === 'string' &&
    (value.folder === undefined || (typeof value.folder === 'string' && isOwnFolder(first, value.folder))) &&
    Array.isArray(value.parts) &&
    value.parts.every(isPart)
  return isNote ? (value as unknown as GroupNote) : undefined
}

function isPart(value: unknown): boolean {
  const part = value as Partial<Record<keyof GroupPart, unknown>> | null
  return (
    typeof part?.name === 'string' &&
    part.name === basename(part.name) &&
    typeof part.bytes === 'number' &&
    typeof part.sha256 === 'string'
  )
}

/** Where the parts of a note's version are. */
export function partPaths(first: string, { folder, parts }: GroupNote): string[] {
  const at = folder === undefined ? dirname(first) : join(dirname(first), folder)
  return parts.map(({ name }) => join(at, name))
}

/** All parts of the published version, if it is what the sources ask for: a look at each, no lock, no request. */
export async function findGroup(
  first: string,
  sources: readonly ResolvedSource[],
): Promise<PublishedFile[] | undefined> {
  const note = await readGroup(first)
  if (note === undefined || note.isPending || note.parts.length !== sources.length) return undefined
  const files: PublishedFile[] = []
  for (const [index, path] of partPaths(first, note).entries()) {
    const source = sources[index] as ResolvedSource
    const [manifest, stats] = await Promise.all([readManifest(path), stat(path).catch(() => undefined)])
    // One by one they may be right, and still be of two versions.
    if (!manifest || !stats?.isFile() || manifest.group !== note.id) return undefined
    if (!speaksFor(manifest, stats) || !satisfies(manifest, source)) return undefined
    files.push(asPublished(path, manifest, fromCache))
  }
  return files
}

/** What the note of a group would be, with these parts. */
export function noteOf(
  names: readonly string[],
  manifests: readonly Pick<Manifest, 'bytes' | 'sha256'>[],
  folder?: string,
): GroupNote {
  const parts = manifests.map(({ bytes, sha256 }, index) => ({ name: names[index] as string, bytes, sha256 }))
  const id = groupId(parts.map(({ sha256 }) => sha256))
  return { version: 1, id, ...(folder !== undefined && { folder }), parts }
}

/**
 * A note that leads to this version where it was published before, flat or in its folder. `undefined`: it is not there, or not all
 * of it. What was damaged since, without a trace in its size or mtime, must be replaced: so all of it is hashed.
 */
export async function findVersion(
  first: string,
  version: GroupNote,
  options: HashOptions,
): Promise<GroupNote | undefined> {
  for (const note of [version, { ...version, folder: folderName(first, version.id) }]) {
    if (await isWhole(partPaths(first, note), note, options)) return note
  }
  return undefined
}

async function isWhole(paths: readonly string[], { id, parts }: GroupNote, options: HashOptions): Promise<boolean> {
  const manifests = await Promise.all(paths.map(readManifest))
  if (manifests.some((manifest) => manifest?.group !== id)) return false
  let before = 0
  for (const [index, path] of paths.entries()) {
    const onBytes = (done: number) => options.onBytes?.(before + done)
    const verification = await verifyPublished(path, { ...options, onBytes })
    if (verification.verdict !== 'intact' || verification.sha256 !== parts[index]?.sha256) return false
    before += verification.bytes
  }
  return true
}

/** Publishes a version that is there already: what its server says of it by now is noted. */
export async function publishAgain(
  first: string,
  note: GroupNote,
  manifests: readonly Manifest[],
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const [index, path] of partPaths(first, note).entries()) {
    const [known, { mtimeMs }] = await Promise.all([readManifest(path), onDisk('looking at', path, stat(path))])
    const isAdopted = known?.isAdopted === true
    const manifest = { ...(manifests[index] as Manifest), mtimeMs, group: note.id, ...(isAdopted && { isAdopted }) }
    await noteManifest(path, manifest)
  }
  await writeGroup(first, note, signal)
}

/** In a sticky folder the note may be another user's, whom no lock reaches: his will do if it leads to the same. */
export async function writeGroup(first: string, note: GroupNote, signal?: AbortSignal): Promise<void> {
  try {
    await writeJson(groupPath(first), note, signal)
  } catch (error) {
    const there = await readGroup(first)
    if (there?.id !== note.id || there.folder !== note.folder) throw error
  }
}

/** A part of the version that is to be: a file that has no name yet, or one that stays as it is. */
export interface NewPart {
  readonly name: string
  readonly from: string
  readonly isKept: boolean
  readonly manifest: Manifest
}

/** Makes a version appear in a folder of its own, with all its parts. Resolves with the folder's name. */
export async function publishFolder(
  first: string,
  source: ResolvedSource,
  parts: readonly NewPart[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const id = groupId(parts.map(({ manifest }) => manifest.sha256))
  const folder = folderName(first, id)
  const target = join(dirname(first), folder)
  for (const leftover of await findLeftovers(target)) await dropLeftover(leftover)
  const claim = await Claim.create(target, newRecord(source, {}, 'group'), new Extents())
  try {
    const draft = claim.paths.data
    await onDisk('creating', draft, mkdir(draft))
    for (const { name, from, isKept, manifest } of parts) {
      signal?.throwIfAborted()
      const path = join(draft, name)
      // The partial keeps its name as well until all is published: should this process die, nothing is fetched again.
      await onDisk('publishing', path, isKept ? linkOrCopy(from, path, { signal }) : linkOrRename(from, path))
      const { mtimeMs } = await onDisk('looking at', path, stat(path))
      await writeManifest(path, { ...manifest, mtimeMs, group: id })
    }
    await onDisk('syncing', draft, filePlatform.syncFolder(draft))
    // One of this name is of this version, and was left half-way or damaged, or it would have been found.
    await rm(target, { recursive: true, force: true })
    await onDisk('publishing', target, filePlatform.replace(draft, target, signal))
    await onDisk('syncing', dirname(target), filePlatform.syncFolder(dirname(target)))
    return folder
  } finally {
    await claim.drop()
  }
}

function folderName(first: string, id: string): string {
  return `${stemOf(first)}.${id.slice(0, 8)}`
}

/** Whether a folder of this name may hold a version of the model. */
export function isOwnFolder(first: string, folder: string): boolean {
  return folder.startsWith(`${stemOf(first)}.`) && /\.[0-9a-f]{8}$/.test(folder) && folder === basename(folder)
}

function stemOf(first: string): string {
  return basename(first).replace(/-\d{5}-of-\d{5}\.gguf$/, '')
}

async function linkOrRename(from: string, to: string): Promise<void> {
  await link(from, to).catch(() => rename(from, to))
}
