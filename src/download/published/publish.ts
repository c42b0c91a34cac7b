// Gives a finished, checked partial its final name. What a crash leaves, step by step:
//
//   1  file synced          a complete partial and its record: resumed, its last byte asked for again
//   2  manifest written     the same, and a manifest that speaks for no file yet, since size and mtime disagree
//   3  file renamed         the published file with its manifest, and a record without a partial, which is swept
//   4  record removed       the published file with its manifest
//   5  folder synced        the same, also after a power loss
//
// A power loss before step 5 may undo steps 2 to 4 one by one. A file without its manifest is not trusted (it is hashed
// again, if there is a hash to compare it with), and a manifest without its file speaks for nothing.
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { abortable } from '../disk/abortable.ts'
import { isThere, onDisk } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { errnoOf, ModelDownloadError } from '../errors.ts'
import type { PartialFile } from '../partial/file.ts'
import { isResumable } from '../partial/leftovers.ts'
import type { ResolvedSource } from '../source/parse.ts'
import {
  dropManifest,
  isFromFuture,
  type Manifest,
  newManifest,
  readManifest,
  speaksFor,
  writeManifest,
} from './manifest.ts'

/** A partial whose bytes have been found to be right. */
export interface Checked {
  readonly partial: PartialFile
  readonly source: ResolvedSource
  readonly sha256: string
  /** See `Manifest.identity`. */
  readonly isWeak: boolean
}

/** Held while a file that is there is replaced: whoever is about to load it must not get the one for the other. */
export type GuardReplacement = (path: string, replace: () => Promise<void>) => Promise<void>

/** Makes the bytes durable, and says what the published file will be. The partial takes no more writes. */
export async function seal(checked: Checked, signal: AbortSignal | undefined): Promise<Manifest> {
  const { partial, source, sha256, isWeak } = checked
  try {
    await abortable(partial.sync(), signal)
    const content = { ...(await partial.close()), sha256 }
    return { ...newManifest(source, content, partial.identity), ...(isWeak && { identity: 'weak' }) }
  } catch (error) {
    // After a failed fsync the kernel may have dropped the pages and call the next fsync a success.
    if (error instanceof ModelDownloadError) await partial.drop()
    throw error
  }
}

/**
 * Publishes one file, in place of what may be there. Nobody need replace what has the same bytes: somebody whom no lock reaches
 * may have published them meanwhile, and in a sticky folder his file is his alone.
 */
export async function publish(
  checked: Checked,
  manifest: Manifest,
  { guard, signal }: { guard: GuardReplacement | undefined; signal: AbortSignal | undefined },
): Promise<void> {
  const { partial } = checked
  const { destination } = partial
  const give = () => giveName(partial, manifest, signal)
  try {
    await (guard && (await isThere(destination)) ? guard(destination, give) : give())
    await partial.forgetRecord()
  } catch (error) {
    if (!(await isPublished(destination, manifest))) throw error
    await partial.drop()
  }
  await abortable(syncFolder(dirname(destination)), signal)
}

async function isPublished(destination: string, { sha256 }: Manifest): Promise<boolean> {
  const stats = await stat(destination).catch(() => undefined)
  const manifest = await readManifest(destination).catch(() => undefined)
  return stats !== undefined && manifest?.sha256 === sha256 && speaksFor(manifest, stats)
}

function syncFolder(folder: string): Promise<void> {
  return onDisk('syncing', folder, filePlatform.syncFolder(folder))
}

/** The partial becomes the published file, or, where another file cannot be replaced, all is left as it was. */
async function giveName(partial: PartialFile, manifest: Manifest, signal: AbortSignal | undefined): Promise<void> {
  const { destination } = partial
  if (await isFromFuture(destination)) throw fromFuture(destination)
  const before = await readManifest(destination)
  await writeManifest(destination, manifest, signal)
  try {
    await filePlatform.replace(partial.path, destination, signal)
  } catch (error) {
    // The file that stays would not be known any more.
    await (before ? writeManifest(destination, before).catch(() => {}) : dropManifest(destination))
    throw await whyNotReplaced(partial, error)
  }
}

function fromFuture(destination: string): ModelDownloadError {
  const message =
    `${destination} was published by a later version of os-mutex, which knows more of it than this one does. ` +
    'Nothing was replaced: update os-mutex here, or move that file away'
  return new ModelDownloadError('ERR_MODEL_NAME_TAKEN', message, { path: destination })
}

async function whyNotReplaced({ destination, identity }: PartialFile, cause: unknown): Promise<unknown> {
  const stats = await stat(destination).catch(() => undefined)
  const isReadOnly = stats !== undefined && (stats.mode & 0o200) === 0
  if (!filePlatform.isInUse(cause) || !stats?.isFile() || isReadOnly) {
    return onDisk('publishing', destination, Promise.reject(cause)).catch((error: unknown) => error)
  }
  const message =
    `Another version of ${destination} is in use (${errnoOf(cause)}): some process has it open or loaded, and Windows lets ` +
    `nobody replace it meanwhile. Try again when that process has let go of it${isResumable(identity) ? '; the new version is kept until then' : ''}`
  return new ModelDownloadError('ERR_MODEL_FILE_IN_USE', message, { path: destination, cause })
}
