// Files under their final names: which of them can be trusted, and how to find out.
import type { Stats } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { type HashOptions, hashFile } from '../disk/file-hash.ts'
import { onDisk } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { errnoOf } from '../errors.ts'
import { whyBadGguf } from '../gguf/structure.ts'
import { type Manifest, readManifest } from './manifest.ts'

/** One file. */
export interface PublishedFile {
  readonly path: string
  readonly bytes: number
  /**
   * Absent where nobody has told it: of a file of your own, or one that was there and is used as it is, because its size and
   * structure are right and there is no more to compare it with.
   */
  readonly sha256?: string
  /** Where it came from, without credentials and query. */
  readonly source: string
  readonly etag?: string
  /** When its bytes were last found to be right, in milliseconds since 1970 UTC. */
  readonly publishedAt: number
  /** It was there already. */
  readonly cached: boolean
  /** Bytes that this call received, those it had to throw away included. */
  readonly downloadedBytes: number
  /** Bytes that this call took over from an earlier one that had not finished. */
  readonly resumedBytes: number
}

/** A model: one file, or all parts of a split one. `path` is the first part's then, which is what llama.cpp wants to be given. */
export interface PublishedModel extends PublishedFile {
  /** All parts of a split model, in order. The figures of the model are those of all together; `sha256` has none. */
  readonly parts?: readonly PublishedFile[]
}

export function asPublished(
  path: string,
  manifest: Manifest,
  call: Pick<PublishedFile, 'cached' | 'downloadedBytes' | 'resumedBytes'>,
): PublishedFile {
  const { bytes, sha256, source, etag, publishedAt } = manifest
  return { path, bytes, sha256, source, ...(etag !== undefined && { etag }), publishedAt, ...call }
}

/** A model from its files. */
export function asModel(files: readonly [PublishedFile, ...PublishedFile[]]): PublishedModel {
  const [first] = files
  if (files.length === 1) return first
  const sum = (of: (part: PublishedFile) => number) => files.reduce((total, part) => total + of(part), 0)
  return {
    path: first.path,
    bytes: sum(({ bytes }) => bytes),
    parts: files,
    source: first.source,
    publishedAt: Math.min(...files.map(({ publishedAt }) => publishedAt)),
    cached: files.every(({ cached }) => cached),
    downloadedBytes: sum(({ downloadedBytes }) => downloadedBytes),
    resumedBytes: sum(({ resumedBytes }) => resumedBytes),
  }
}

export const fromCache = { cached: true, downloadedBytes: 0, resumedBytes: 0 } as const

export type Verification =
  /** The bytes have the manifest's hash. */
  | { readonly verdict: 'intact'; readonly sha256: string; readonly bytes: number }
  /** They have not. `problem` says what is wrong, for people. */
  | { readonly verdict: 'damaged'; readonly problem: string }
  /** There is no manifest, so nothing to compare with. */
  | { readonly verdict: 'unknown' }
  | { readonly verdict: 'absent' }

/**
 * Hashes a published file again and compares it with its manifest. Changes nothing.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_FILE_SYSTEM` when it cannot be read; the signal's reason.
 */
export async function verifyPublished(destination: string, options: HashOptions = {}): Promise<Verification> {
  const manifest = await readManifest(destination)
  const file = await inspect(destination, async (_, { size }) => {
    return manifest && size === manifest.bytes ? contentHash(destination, size, options) : undefined
  })
  if (!file) return { verdict: 'absent' }
  if (!manifest) return { verdict: 'unknown' }
  const { stats, found: sha256, isReplaced } = file
  if (isReplaced) return verifyPublished(destination, options)
  const bytes = stats.size
  if (sha256 === undefined) {
    return { verdict: 'damaged', problem: `it has ${bytes} bytes instead of ${manifest.bytes}` }
  }
  if (sha256 !== manifest.sha256) {
    return { verdict: 'damaged', problem: `its SHA-256 is ${sha256} instead of ${manifest.sha256}` }
  }
  return { verdict: 'intact', sha256, bytes }
}

/** What is under the final name right now: size, mtime and hash of one and the same file, and durable. */
export interface Content {
  readonly bytes: number
  readonly mtimeMs: number
  readonly sha256: string
}

/** Hashes the file and makes it durable. `undefined` when there is none, it is no whole GGUF, or it changed meanwhile. */
export async function readContent(path: string, options: HashOptions): Promise<Content | undefined> {
  const file = await inspect(path, async (handle, { size, mtimeMs }) => {
    if (await onDisk('reading', path, whyBadGguf(handle, size))) return undefined
    const sha256 = await contentHash(path, size, options)
    await onDisk('syncing', path, filePlatform.syncContent(handle, path))
    const after = await handle.stat()
    return after.size === size && after.mtimeMs === mtimeMs ? { bytes: size, mtimeMs, sha256 } : undefined
  })
  return file?.isReplaced ? undefined : file?.found
}

/** Size and mtime of a file, and why it is no whole GGUF, if it is not. `undefined` when there is none. */
export async function lookAtFile(
  path: string,
): Promise<{ bytes: number; mtimeMs: number; why: string | undefined } | undefined> {
  const file = await inspect(path, async (handle, { size }) => onDisk('reading', path, whyBadGguf(handle, size)))
  return file && { bytes: file.stats.size, mtimeMs: file.stats.mtimeMs, why: file.found }
}

async function contentHash(path: string, bytes: number, options: HashOptions): Promise<string> {
  const hash = hashFile(path, bytes)
  try {
    return await hash.digest(bytes, options)
  } finally {
    hash.close()
  }
}

/** `isReplaced`: another file has the name by now, so what was read by name may be of either. */
async function inspect<T>(
  path: string,
  look: (handle: FileHandle, stats: Stats) => Promise<T>,
): Promise<{ stats: Stats; found: T; isReplaced: boolean } | undefined> {
  let handle: FileHandle
  try {
    handle = await open(path, 'r')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    return onDisk('opening', path, Promise.reject(error))
  }
  try {
    const stats = await onDisk('looking at', path, handle.stat())
    const found = await look(handle, stats)
    const now = await stat(path).catch(() => undefined)
    return { stats, found, isReplaced: now?.ino !== stats.ino || now.dev !== stats.dev }
  } finally {
    await handle.close()
  }
}
