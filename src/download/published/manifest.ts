// What is known of a published file, kept beside it: one small file per model, so that two models never contend for one
// index, and hidden, so that it does not show up among the models.
//
// It is written before the file gets its name. It speaks for the file only while size and mtime agree, so a crash
// between the two steps leaves a manifest that speaks for nothing, and never a verified file without its manifest.
import { draftPath, manifestPath } from '../disk/file-names.ts'
import { isReadOnly, onDisk, randomId, readSmallJson, removeQuietly, writeNewDurably } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import type { RemoteIdentity } from '../http/identity.ts'
import type { ResolvedSource } from '../source/parse.ts'

export interface Manifest {
  /** 1. Later versions add fields, and keep the meaning of these. */
  readonly version: number
  readonly bytes: number
  /** The file's mtime when it was verified. A file with another size or mtime is not the one that was verified. */
  readonly mtimeMs: number
  readonly sha256: string
  /** Where it came from, without credentials and query. */
  readonly source: string
  /** `ResolvedSource.key` of each source that was seen to have these bytes, the first one's first. */
  readonly sourceKey: string
  readonly otherKeys?: readonly string[]
  /** `ResolvedSource.placeKey`. */
  readonly placeKey?: string
  /** As the server sent it. */
  readonly etag?: string
  readonly lastModified?: string
  readonly isSettled?: boolean
  /**
   * The file was put together from several answers that only their date and size held together. Its structure is whole; that
   * every byte is of one version is not proved.
   */
  readonly identity?: 'weak'
  /** The parts that it belongs to, by what all their hashes are: see group.ts. */
  readonly group?: string
  /** The file was there, and is not by this package. */
  readonly isAdopted?: boolean
  /** Milliseconds since 1970 UTC. */
  readonly publishedAt: number
}

/** The version that is written here. */
export const manifestVersion = 1

/** `undefined` when there is none that makes sense. A later version is read as far as it is known. */
export async function readManifest(destination: string): Promise<Manifest | undefined> {
  const value = await readSmallJson(manifestPath(destination))
  const optional = (name: string, type: string) => value?.[name] === undefined || typeof value[name] === type
  const isManifest =
    typeof value?.version === 'number' &&
    value.version >= 1 &&
    typeof value.bytes === 'number' &&
    typeof value.mtimeMs === 'number' &&
    typeof value.sha256 === 'string' &&
    typeof value.source === 'string' &&
    typeof value.sourceKey === 'string' &&
    typeof value.publishedAt === 'number' &&
    (value.otherKeys === undefined || Array.isArray(value.otherKeys)) &&
    optional('placeKey', 'string') &&
    optional('etag', 'string') &&
    optional('lastModified', 'string') &&
    optional('group', 'string')
  return isManifest ? (value as unknown as Manifest) : undefined
}

/** Whether a later version of this package wrote the manifest. What it speaks for is not ours to replace. */
export async function isFromFuture(destination: string): Promise<boolean> {
  const { version } = (await readSmallJson(manifestPath(destination))) ?? {}
  return typeof version === 'number' && version > manifestVersion
}

/** Replaces the manifest in one step. */
export async function writeManifest(destination: string, manifest: Manifest, signal?: AbortSignal): Promise<void> {
  await writeJson(manifestPath(destination), manifest, signal)
}

/** Replaces a small file of ours in one step. */
export async function writeJson(path: string, value: unknown, signal?: AbortSignal): Promise<void> {
  const draft = draftPath(path, randomId())
  try {
    await onDisk('writing', draft, writeNewDurably(draft, JSON.stringify(value)))
    await onDisk('writing', path, filePlatform.replace(draft, path, signal))
  } catch (error) {
    await removeQuietly(draft)
    throw error
  }
}

/**
 * Writes what was found out about a file that was there already. Where it can't be written (a read-only store), that costs
 * another look the next time, and no more.
 */
export async function noteManifest(destination: string, manifest: Manifest): Promise<void> {
  await writeManifest(destination, manifest).catch((error: unknown) => {
    if (!isReadOnly(error)) throw error
  })
}

/** Never fails: one that stays speaks for no file. */
export async function dropManifest(destination: string): Promise<void> {
  await removeQuietly(manifestPath(destination))
}

/**
 * Whether a manifest is of the file that is there. Copies, archives and image layers keep whole seconds of the mtime, or,
 * as Nix does, none: those are equal to what they were cut from.
 */
export function speaksFor(manifest: Manifest, { size, mtimeMs }: { size: number; mtimeMs: number }): boolean {
  if (size !== manifest.bytes) return false
  return (
    mtimeMs === manifest.mtimeMs || (mtimeMs % 1000 === 0 && mtimeMs === Math.floor(manifest.mtimeMs / 1000) * 1000)
  )
}

/** Whether these bytes are what `source` asks for: by hash where it gives one, otherwise by where they came from. */
export function satisfies(manifest: Manifest, source: ResolvedSource): boolean {
  if (source.bytes !== undefined && source.bytes !== manifest.bytes) return false
  if (source.sha256 !== undefined) return source.sha256 === manifest.sha256
  return isOf(manifest, source)
}

/** Whether they came from there, in whatever version. */
export function isOf({ sourceKey, otherKeys, source: label }: Manifest, source: ResolvedSource): boolean {
  if (source.key === sourceKey || otherKeys?.includes(source.key) === true) return true
  // A link to a file on the hub was a plain URL to whoever downloaded it by one.
  return source.plainLabel !== undefined && label === source.plainLabel
}

export function newManifest(
  source: ResolvedSource,
  content: { readonly bytes: number; readonly mtimeMs: number; readonly sha256: string },
  identity: RemoteIdentity,
): Manifest {
  const { etag, lastModified, isSettled } = identity
  return {
    version: manifestVersion,
    ...content,
    source: source.label,
    sourceKey: source.key,
    placeKey: source.placeKey,
    ...(etag !== undefined && { etag }),
    ...(lastModified !== undefined && { lastModified }),
    ...(isSettled === true && { isSettled }),
    publishedAt: Date.now(),
  }
}

/** The validators of the published version. */
export function identityOf(manifest: Manifest): RemoteIdentity {
  const { bytes, sha256, etag, lastModified, isSettled } = manifest
  return {
    bytes,
    sha256,
    ...(etag !== undefined && { etag }),
    ...(lastModified !== undefined && { lastModified }),
    ...(isSettled === true && { isSettled }),
  }
}
