// A partial that this process has claimed: its bytes, which of them are there, and their hash. What it is on disk, and what
// keeps two processes apart, is in partial-record.ts.
import { type FileHandle, open, stat } from 'node:fs/promises'
import { bytesOf, restOf } from '../disk/chunks.ts'
import { type FileHash, type HashOptions, hashFile } from '../disk/file-hash.ts'
import { onDisk, randomId, removeQuietly } from '../disk/files.ts'
import { takeRoom } from '../disk/free-space.ts'
import { filePlatform } from '../disk/platform.ts'
import { ModelDownloadError } from '../errors.ts'
import { ggufHeaderBytes, whyNotGguf } from '../gguf/header.ts'
import type { RemoteIdentity } from '../http/remote.ts'
import type { ResolvedSource } from '../source/parse.ts'
import { encodeMap } from './extent-map.ts'
import { type Extent, Extents } from './extents.ts'
import {
  adoptedIdentity,
  dropFiles,
  forgetRecord,
  identityOf,
  isResumable,
  type Leftover,
  manifestDraftPath,
  mapPath,
  newRecord,
  type PartialRecord,
  partialPath,
  recordPath,
  writeRecord,
} from './record.ts'
import { quarantine, type Rejection } from './rejected.ts'

/** How often the map is written, in milliseconds: what a kill may cost. */
const mapIntervalMs = 50
/** How much may be written before the disk is told to begin with it: so that the last sync has little left to wait for. */
const syncEveryBytes = 256 * 1024 * 1024

export class PartialFile {
  readonly destination: string
  readonly path: string
  readonly identity: RemoteIdentity
  /** Whether bytes may be written anywhere, and not only at the end. */
  readonly inSegments: boolean
  readonly #id: string
  readonly #handle: FileHandle
  readonly #map: FileHandle | undefined
  readonly #record: PartialRecord
  readonly #hash: FileHash
  readonly #extents: Extents
  #isSpoilt = false
  #room: Promise<void> | undefined
  #sequence = 0
  #mappedAt = Number.NEGATIVE_INFINITY
  #mapping: Promise<void> | undefined
  #unsynced = 0
  #syncing: Promise<void> | undefined
  #syncFailure: { readonly error: unknown } | undefined

  private constructor(
    destination: string,
    id: string,
    files: { readonly handle: FileHandle; readonly map: FileHandle | undefined },
    record: PartialRecord,
    extents: Extents,
  ) {
    this.destination = destination
    this.path = partialPath(destination, id)
    this.identity = identityOf(record)
    this.inSegments = record.inSegments === true
    this.#id = id
    this.#handle = files.handle
    this.#map = files.map
    this.#record = record
    this.#extents = extents
    this.#hash = hashFile(this.path, record.bytes)
    this.#hash.reach(extents.frontier)
  }

  /** How many bytes of the file are here. */
  get kept(): number {
    return this.#extents.bytes
  }

  /** How many of them are here without a gap, from the first on. */
  get frontier(): number {
    return this.#extents.frontier
  }

  /** How many of these are hashed. */
  get hashed(): number {
    return this.#hash.done
  }

  /** What is not here yet, in order. */
  missing(total: number): Extent[] {
    return this.#extents.missing(total)
  }

  /** A free name in the same folder that goes when the partial goes. */
  get manifestDraft(): string {
    return manifestDraftPath(this.destination, this.#id)
  }

  /**
   * Claims a new, empty partial. Its identity is durable before this resolves, so before the first byte. `inSegments` needs an
   * identity that tells the size.
   */
  static async create(
    destination: string,
    source: ResolvedSource,
    identity: RemoteIdentity,
    inSegments: boolean,
  ): Promise<PartialFile> {
    const id = randomId()
    const record = newRecord(source, identity, inSegments)
    await writeRecord(destination, id, record)
    const path = partialPath(destination, id)
    let map: FileHandle | undefined
    try {
      map = inSegments ? await openMap(destination, id, new Extents()) : undefined
      const handle = await onDisk('creating', path, open(path, 'wx'))
      return new PartialFile(destination, id, { handle, map }, record, new Extents())
    } catch (error) {
      await map?.close().catch(() => {})
      await forgetRecord(destination, id)
      throw error
    }
  }

  /**
   * Takes over what another process left. `undefined` when it went to somebody else, or is of no use. The caller has checked
   * `mayResume`.
   */
  static async adopt(
    destination: string,
    source: ResolvedSource,
    leftover: Leftover,
    signal: AbortSignal | undefined,
  ): Promise<PartialFile | undefined> {
    const id = randomId()
    const identity = adoptedIdentity(leftover.record, source)
    const inSegments = leftover.record.inSegments === true
    const record = newRecord(source, identity, inSegments)
    const path = partialPath(destination, id)
    // Of a complete partial the last byte is fetched again, so that one and the same way of asking the server whether it
    // still has this version serves every partial.
    const extents = new Extents(upTo(leftover.extents.ranges, (identity.bytes ?? Number.POSITIVE_INFINITY) - 1))
    await writeRecord(destination, id, record)
    let map: FileHandle | undefined
    try {
      map = inSegments ? await openMap(destination, id, extents) : undefined
      await filePlatform.replace(partialPath(destination, leftover.id), path, signal)
    } catch {
      // Another process was faster: the old name is gone. (Or somebody has it open, and it stays for a later call.)
      await map?.close().catch(() => {})
      await forgetRecord(destination, id)
      return undefined
    }
    await forgetRecord(destination, leftover.id)
    const handle = await onDisk('opening', path, open(path, 'r+'))
    const partial = new PartialFile(destination, id, { handle, map }, record, extents)
    const head = Buffer.alloc(ggufHeaderBytes)
    const isRead = await handle.read(head, 0, head.length, 0).catch(() => undefined)
    if (isRead !== undefined && whyNotGguf(head) === undefined) return partial
    await partial.drop()
    return undefined
  }

  /**
   * Writes bytes at their place: anywhere `inSegments`, else behind those that are there. Several may be under way at once.
   * When it returns the kernel has the bytes, so that a kill loses none of them, or, `inSegments`, those of the last moment.
   */
  async write(position: number, chunks: readonly Buffer[]): Promise<void> {
    const bytes = bytesOf(chunks)
    const farthest = this.#extents.end
    const { size } = await onDisk('looking at', this.path, this.#handle.stat())
    if (size < farthest) throw this.#spoilt(`has ${size} bytes where ${farthest} were written`)
    await onDisk('writing', this.path, writeFully(this.#handle, chunks, position))
    this.#extents.add(position, position + bytes)
    this.#hash.reach(this.#extents.frontier)
    this.#unsynced += bytes
    if (this.#unsynced >= syncEveryBytes && this.#syncing === undefined) this.#beginSync()
    if (this.#map !== undefined && performance.now() - this.#mappedAt >= mapIntervalMs) await this.#writeMap(this.#map)
  }

  /** Takes room on the disk for the whole file; see `takeRoom`. */
  async takeRoom(bytes: number): Promise<void> {
    this.#room ??= takeRoom(this.path, bytes)
    await this.#room
  }

  /** How many bytes of the disk are taken for it already. */
  async allocatedBytes(): Promise<number> {
    const { blocks } = await onDisk('looking at', this.path, this.#handle.stat())
    return Math.max(this.kept, (blocks ?? 0) * 512)
  }

  /** The SHA-256 of all bytes, which are all here. Once only. */
  async digest(options: HashOptions): Promise<string> {
    // The last of them, too, for whoever may have to publish it instead.
    if (this.#map !== undefined) await this.#writeMap(this.#map)
    return this.#hash.digest(this.kept, options)
  }

  async sync(): Promise<void> {
    await this.#syncing
    // The kernel tells a failure once, and calls the next sync a success.
    if (this.#syncFailure) await onDisk('syncing', this.path, Promise.reject(this.#syncFailure.error))
    await onDisk('syncing', this.path, this.#handle.sync())
  }

  /** No more writes. Returns what the file now is, which is nothing but what was written. */
  async close(): Promise<{ bytes: number; mtimeMs: number }> {
    this.#hash.close()
    await this.#map?.close().catch(() => {})
    const ours = await onDisk('looking at', this.path, this.#handle.stat())
    await onDisk('closing', this.path, this.#handle.close())
    const there = await onDisk('looking at', this.path, stat(this.path))
    if (there.ino !== ours.ino || there.dev !== ours.dev) throw this.#spoilt('is another file by now')
    if (there.size !== this.kept) throw this.#spoilt(`has ${there.size} bytes where ${this.kept} were written`)
    return { bytes: there.size, mtimeMs: there.mtimeMs }
  }

  /** After the file has its final name: nothing but the record is left to remove. */
  async forgetRecord(): Promise<void> {
    await forgetRecord(this.destination, this.#id)
  }

  /**
   * Lets go of the partial, so that anyone may resume it; removes it where nobody could. No write may be under way. Never
   * fails: it is called on the way out with an error that matters more, and a claim that stays ends with this process.
   */
  async giveBack(): Promise<void> {
    if (this.frontier < ggufHeaderBytes || !isResumable(this.identity) || this.#isSpoilt) return this.drop()
    if (this.#map !== undefined) await this.#writeMap(this.#map)
    // Nobody knows whether the rest will ever come: what was taken for it behind the end goes back to the disk.
    await this.#handle.truncate(this.#extents.end).catch(() => {})
    await this.#endClaim()
  }

  /** Sets it aside as wrong. Returns where it is then, if anywhere. */
  async reject(rejection: Rejection): Promise<string | undefined> {
    this.#hash.close()
    await this.#map?.close().catch(() => {})
    await this.#handle.close().catch(() => {})
    const { destination, path } = this
    const kept = await quarantine(destination, { partial: path, id: this.#id, rejection })
    await this.forgetRecord()
    return kept
  }

  /** Removes the partial and all that belongs to it. Never fails, for the same reason. */
  async drop(): Promise<void> {
    this.#closeSoon()
    await dropFiles(this.destination, this.#id)
  }

  /** Somebody else was at it, against all rules: none of its bytes can be relied on. */
  #spoilt(what: string): ModelDownloadError {
    this.#isSpoilt = true
    const message = `${this.path} ${what}; something else writes there. Find out what, and try again`
    return new ModelDownloadError('ERR_MODEL_FILE_SYSTEM', message, { path: this.path })
  }

  /** Beside the writes that follow. One at a time. */
  #beginSync(): void {
    this.#unsynced = 0
    const fail = (error: unknown) => {
      this.#syncFailure ??= { error }
    }
    this.#syncing = this.#handle
      .datasync()
      .catch(fail)
      .finally(() => {
        this.#syncing = undefined
      })
  }

  // One after the other, or an older copy could come out newer on disk. A map that can't be written costs only a resumption.
  #writeMap(map: FileHandle): Promise<void> {
    this.#mappedAt = performance.now()
    const write = async () => {
      const { copy, offset } = encodeMap(this.#extents, ++this.#sequence)
      await map.write(copy, 0, copy.length, offset).catch(() => {})
    }
    this.#mapping = this.#mapping === undefined ? write() : this.#mapping.then(write)
    return this.#mapping
  }

  async #endClaim(): Promise<void> {
    // In place and of the same length, which is one small write: there is no moment with half a record, and no
    // second file that a kill could leave behind.
    const length = Buffer.byteLength(JSON.stringify(this.#record))
    const text = Buffer.from(JSON.stringify({ ...this.#record, claim: null }).padEnd(length))
    const handle = await open(recordPath(this.destination, this.#id), 'r+').catch(() => undefined)
    await handle?.write(text, 0, text.length, 0).catch(() => {})
    await handle?.close().catch(() => {})
    this.#closeSoon()
  }

  // Not awaited: an fsync that is still under way holds it up, and an abort must not wait for that.
  #closeSoon(): void {
    this.#hash.close()
    this.#map?.close().catch(() => {})
    this.#handle.close().catch(() => {})
  }
}

function upTo(ranges: readonly Extent[], limit: number): Extent[] {
  return ranges.map(({ start, end }) => ({ start, end: Math.min(end, limit) }))
}

async function openMap(destination: string, id: string, extents: Extents): Promise<FileHandle> {
  const path = mapPath(destination, id)
  const handle = await onDisk('creating', path, open(path, 'wx'))
  try {
    const { copy, offset } = encodeMap(extents, 0)
    await onDisk('writing', path, handle.write(copy, 0, copy.length, offset))
    return handle
  } catch (error) {
    await handle.close()
    await removeQuietly(path)
    throw error
  }
}

async function writeFully(handle: FileHandle, chunks: readonly Buffer[], position: number): Promise<void> {
  let left = chunks
  for (let at = position; left.length > 0; ) {
    // A nearly full disk takes fewer bytes than it is given, and refuses only the next write.
    const { bytesWritten } = await handle.writev(left, at)
    at += bytesWritten
    left = restOf(left, bytesWritten)
  }
}
