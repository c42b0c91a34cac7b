// What is known of a published file, kept beside it as `.<file>.os-mutex.json`: one small file per model, so that two
// models never contend for one index, and hidden, so that it does not show up among the models.
//
// It is written before the file gets its name. It speaks for the file only while size and mtime agree, so a crash
// between the two steps leaves a manifest that speaks for nothing, and never a verified file without its manifest.
import { basename, dirname, join } from 'node:path'
import { onDisk, randomId, readSmallJson, removeQuietly, writeNewDurably } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import type { ResolvedSource } from '../source/parse.ts'

export interface Manifest {
  readonly version: 1
  readonly bytes: number
  /** The file's mtime when it was verified. A file with another size or mtime is not the one that was verified. */
  readonly mtimeMs: number
  readonly sha256: string
  /** Where it came from, without credentials and query. */
  readonly source: string
  /** `ResolvedSource.key`: tells two URLs apart that differ in their query only, without storing the query. */
  readonly sourceKey: string
  /** A strong ETag. */
  readonly etag?: string
  /** Milliseconds since 1970 UTC. */
  readonly publishedAt: number
}

export function manifestPath(destination: string): string {
  return join(dirname(destination), `.${basename(destination)}.os-mutex.json`)
}

/** `undefined` when there is none that makes sense. */
export async function readManifest(destination: string): Promise<Manifest | undefined> {
  const value = await readSmallJson(manifestPath(destination))
  const isManifest =
    value?.version === 1 &&
    typeof value.bytes === 'number' &&
    typeof value.mtimeMs === 'number' &&
    typeof value.sha256 === 'string' &&
    typeof value.source === 'string' &&
    typeof value.sourceKey === 'string' &&
    (value.etag === undefined || typeof value.etag === 'string') &&
    typeof value.publishedAt === 'number'
  return isManifest ? (value as unknown as Manifest) : undefined
}

export interface WriteManifestOptions {
  /** A name of the writer's own in the same folder. */
  readonly temporary?: string
  readonly signal?: AbortSignal | undefined
}

/** Replaces the manifest in one step, by way of `temporary`. */
export async function writeManifest(
  destination: string,
  manifest: Manifest,
  { temporary = `${manifestPath(destination)}.${randomId()}`, signal }: WriteManifestOptions = {},
): Promise<void> {
  const path = manifestPath(destination)
  try {
    await onDisk('writing', temporary, writeNewDurably(temporary, JSON.stringify(manifest)))
    await onDisk('writing', path, filePlatform.replace(temporary, path, signal))
  } catch (error) {
    await removeQuietly(temporary)
    throw error
  }
}

/** Never fails: one that stays speaks for no file. */
export async function dropManifest(destination: string): Promise<void> {
  await removeQuietly(manifestPath(destination))
}

/** Whether these bytes are what `source` asks for: by hash where it gives one, otherwise by where they came from. */
export function satisfies(manifest: Manifest, source: ResolvedSource): boolean {
  if (source.bytes !== undefined && source.bytes !== manifest.bytes) return false
  return source.sha256 === undefined ? source.key === manifest.sourceKey : source.sha256 === manifest.sha256
}
