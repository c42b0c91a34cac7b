// The same bytes at a second path: by a hard link where that can be, else by a copy that shares its blocks or is a real one.
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { currentProcess } from '../../mutex/process-identity.ts'
import { type CopyOptions, isLinked, linkOrCopy } from '../disk/copy.ts'
import { onDisk } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { ModelDownloadError } from '../errors.ts'
import { Claim } from '../partial/claim.ts'
import { Extents } from '../partial/extents.ts'
import { type Manifest, noteManifest, readManifest } from './manifest.ts'

export interface MirrorOptions extends CopyOptions {
  /** Whether a file that is there and is none of ours may be replaced. */
  readonly replace: boolean
}

/** Whether `to` is the file at `path`, or a copy that was made of it: of its size and mtime. */
async function isMirrored(path: string, to: string): Promise<boolean> {
  const [file, mirror] = await Promise.all([path, to].map((name) => stat(name).catch(() => undefined)))
  if (!file?.isFile() || !mirror?.isFile()) return false
  if (file.ino === mirror.ino && file.dev === mirror.dev) return true
  // A copy's mtime is set in seconds, with fractions, and read back rounded.
  return file.size === mirror.size && Math.abs(file.mtimeMs - mirror.mtimeMs) < 1
}

/**
 * Puts the published file at `to` as well, in one step, in place of an older mirror that may be there. Needs no lock: two that
 * do it at once put the same there.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_NAME_TAKEN`, `ERR_MODEL_FILE_SYSTEM`, `ERR_MODEL_DISK_FULL`; the signal's reason.
 */
export async function mirror(path: string, to: string, options: MirrorOptions): Promise<void> {
  if (await isMirrored(path, to)) return
  const folder = dirname(to)
  await onDisk('creating', folder, mkdir(folder, { recursive: true }))
  const manifest = await readManifest(path)
  await checkMirror(path, to, options)
  if (!(await onDisk('writing', to, isLinked(path, to)))) await putCopy(path, to, manifest, options)
  const { mtimeMs } = await onDisk('looking at', to, stat(to))
  // So that the next one knows it for a mirror, and whoever looks for the model there for the model.
  if (manifest) await noteManifest(to, { ...manifest, mtimeMs })
  await onDisk('syncing', folder, filePlatform.syncFolder(folder))
}

/**
 * Whether the file may be put at `to`: there is nothing, or an older mirror of the same source.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_NAME_TAKEN`, `ERR_MODEL_FILE_SYSTEM`
 */
export async function checkMirror(path: string, to: string, { replace }: MirrorOptions): Promise<void> {
  const there = await stat(to).catch(() => undefined)
  if (there === undefined) return
  if (!there.isFile()) {
    const message = `${to} is not a file, so no model can be put there; move it away, or give another \`mirrorTo\``
    throw new ModelDownloadError('ERR_MODEL_FILE_SYSTEM', message, { path: to })
  }
  if (replace || (await isMirrored(path, to))) return
  const [manifest, known] = await Promise.all([readManifest(path), readManifest(to)])
  if (known !== undefined && known.sourceKey === manifest?.sourceKey) return
  const whose = known === undefined ? 'no source is known of it' : `it is from ${known.source}`
  const message =
    `${to} is there and is no mirror of ${manifest?.source ?? 'this model'}: ${whose}. Nothing was replaced: give another ` +
    '`mirrorTo`, move that file away, or replace it with `replace: true`'
  throw new ModelDownloadError('ERR_MODEL_NAME_TAKEN', message, { path: to })
}

async function putCopy(
  path: string,
  to: string,
  manifest: Manifest | undefined,
  options: MirrorOptions,
): Promise<void> {
  const { bootId } = currentProcess()
  const record = { version: 1, kind: 'mirror', source: path, sourceKey: manifest?.sourceKey ?? '', bootId } as const
  const claim = await Claim.create(to, record, new Extents())
  const draft = claim.paths.data
  try {
    await onDisk('writing', draft, linkOrCopy(path, draft, options))
    await onDisk('publishing', to, filePlatform.replace(draft, to, options.signal))
  } catch (error) {
    if (options.signal?.aborted) throw options.signal.reason
    throw error
  } finally {
    await claim.drop()
  }
}
