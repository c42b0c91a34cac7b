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
import { onDisk } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { errnoOf, ModelDownloadError } from '../errors.ts'
import type { PartialFile } from '../partial/file.ts'
import { isResumable } from '../partial/record.ts'
import type { ResolvedSource } from '../source/parse.ts'
import { dropManifest, type Manifest, readManifest, writeManifest } from './manifest.ts'

/** Publishes `partial`, whose bytes have been found to be right and to have this SHA-256. */
export async function publish(
  partial: PartialFile,
  source: ResolvedSource,
  sha256: string,
  signal: AbortSignal | undefined,
): Promise<Manifest> {
  const { destination } = partial
  let closed: { bytes: number; mtimeMs: number }
  try {
    await abortable(partial.sync(), signal)
    closed = await partial.close()
  } catch (error) {
    // After a failed fsync the kernel may have dropped the pages and call the next fsync a success.
    if (error instanceof ModelDownloadError) await partial.drop()
    throw error
  }
  const { bytes, mtimeMs } = closed
  const manifest: Manifest = {
    version: 1,
    bytes,
    mtimeMs,
    sha256,
    source: source.label,
    sourceKey: source.key,
    ...(partial.identity.etag !== undefined && { etag: partial.identity.etag }),
    publishedAt: Date.now(),
  }
  await giveName(partial, manifest, signal)
  await partial.forgetRecord()
  await abortable(onDisk('syncing', dirname(destination), filePlatform.syncFolder(dirname(destination))), signal)
  return manifest
}

/** The partial becomes the published file, or, where another file cannot be replaced, all is left as it was. */
async function giveName(partial: PartialFile, manifest: Manifest, signal: AbortSignal | undefined): Promise<void> {
  const { destination } = partial
  const before = await readManifest(destination)
  await writeManifest(destination, manifest, { temporary: partial.manifestDraft, signal })
  try {
    await filePlatform.replace(partial.path, destination, signal)
  } catch (error) {
    // The file that stays would not be known any more.
    await (before ? writeManifest(destination, before).catch(() => {}) : dropManifest(destination))
    throw await whyNotReplaced(partial, error)
  }
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
