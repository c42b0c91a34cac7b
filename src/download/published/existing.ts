// What is under a model's name already, and whose it is: by its manifest, without a hash or a request.
import { stat } from 'node:fs/promises'
import { errnoOf, ModelDownloadError } from '../errors.ts'
import type { ResolvedSource } from '../source/parse.ts'
import { isOf, type Manifest, readManifest, satisfies, speaksFor } from './manifest.ts'
import { asPublished, fromCache, type PublishedFile } from './verify.ts'

export type Existing =
  | { readonly kind: 'none' }
  /** What is asked for. */
  | { readonly kind: 'right'; readonly file: PublishedFile; readonly manifest: Manifest }
  /** Published by this source, and another version than is asked for. */
  | { readonly kind: 'outdated'; readonly manifest: Manifest }
  /** Published by this source or with this hash, and changed since. */
  | { readonly kind: 'changed'; readonly manifest: Manifest; readonly bytes: number }
  /** Somebody else's, as far as its manifest tells, or its lack. */
  | { readonly kind: 'other'; readonly manifest: Manifest | undefined; readonly bytes: number }

export async function lookAtExisting(destination: string, source: ResolvedSource): Promise<Existing> {
  const [stats, manifest] = await Promise.all([statOf(destination), readManifest(destination)])
  if (!stats) return { kind: 'none' }
  if (!stats.isFile()) {
    const message = `${destination} is not a file, so no model can be published there; move it away`
    throw new ModelDownloadError('ERR_MODEL_FILE_SYSTEM', message, { path: destination })
  }
  const bytes = stats.size
  if (manifest === undefined) return { kind: 'other', manifest, bytes }
  const isOurs = isOf(manifest, source) || satisfies(manifest, source)
  if (!isOurs) return { kind: 'other', manifest, bytes }
  if (!speaksFor(manifest, stats)) return { kind: 'changed', manifest, bytes }
  if (!satisfies(manifest, source)) return { kind: 'outdated', manifest }
  return { kind: 'right', file: asPublished(destination, manifest, fromCache), manifest }
}

/** The published file, if it is what `source` asks for. `undefined` in all other cases. */
export async function findPublished(destination: string, source: ResolvedSource): Promise<PublishedFile | undefined> {
  try {
    const existing = await lookAtExisting(destination, source)
    return existing.kind === 'right' ? existing.file : undefined
  } catch {
    return undefined
  }
}

async function statOf(path: string) {
  try {
    return await stat(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR') return undefined
    throw error
  }
}

/** Another source's file, or nobody knows whose, has the name. The caller may have another name for it. */
export class NameTakenError extends ModelDownloadError {
  constructor(destination: string, source: ResolvedSource, manifest: Manifest | undefined) {
    const whose = manifest === undefined ? 'no source is known of it' : `it is from ${manifest.source}`
    super(
      'ERR_MODEL_NAME_TAKEN',
      `${destination} is there and is not what ${source.label} has: ${whose}. Nothing was replaced: give another ` +
        '`fileName`, move that file away, or replace it with `replace: true`',
      { url: source.label, path: destination },
    )
  }
}
