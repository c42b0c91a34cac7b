// A partial that this process has claimed: its bytes, which of them are there, and their hash.
import { fstatSync } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { bytesOf, restOf } from '../disk/chunks.ts'
import { type FileHash, type HashOptions, hashFile } from '../disk/file-hash.ts'
import { partialPaths } from '../disk/file-names.ts'
import { isSameFile, onDisk } from '../disk/files.ts'
import { takeRoom } from '../disk/free-space.ts'
import { syncData, syncHandle } from '../disk/sync.ts'
import { ModelDownloadError } from '../errors.ts'
import { ggufHeaderBytes, whyNotGguf } from '../gguf/header.ts'
import type { RemoteIdentity } from '../http/identity.ts'
import type { ResolvedSource } from '../source/parse.ts'
import { Claim, dropLeftover, type Leftover } from './claim.ts'
import { type Extent, Extents } from './extents.ts'
import { isResumable, newRecord, resumedExtents, resumedRecord } from './leftovers.ts'
import type { PartialRecord } from './record.ts'
import { keepHead, type Rejection } from './rejected.ts'

/** How often the map is written, in milliseconds: what a kill may cost. */
const mapIntervalMs = 50
/** How much may be written before the disk is told to begin with it: so that the last sync has little left to wait for. */
const syncEveryBytes = 256 * 1024 * 1024

/** Its bytes can't be relied on any more: somebody removed, replaced or cut it. */
export class SpoiltPartialError extends ModelDownloadError {}

export class PartialFile {
  readonly destination: string
  readonly identity: RemoteIdentity
  readonly #sourceKey: string
  readonly #claim: Claim
  readonly #handle: FileHandle
  readonly #hash: FileHash
  readonly #extents: Extents
  /** Found out at some look; nothing makes it good again. */
  #spoiltBy: SpoiltPartialError | undefined
  #room: Promise<void> | undefined
  #mappedAt = Number.NEGATIVE_INFINITY
  #mapTimer: NodeJS.Timeout | undefined
  #unsynced = 0
  #syncing: Promise<void> | undefined
  #syncFailure: { readonly error: unknown } | undefined

  private constructor(destination: string, claim: Claim, handle: FileHandle, record: PartialRecord, extents: Extents) {
    const { version, kind, source, sourceKey, placeKey, bootId, ...identity } = record
    this.destination = destination
    this.identity = identity
    this.#sourceKey = sourceKey
    this.#claim = claim
    this.#handle = handle
    this.#extents = extents
    this.#hash = hashFile(this.path, record.bytes)
    this.#hash.reach(extents.frontier)
  }

  get path(): string {
    return this.#claim.paths.data
  }

  /** Whether it was begun for this source. */
  isOf({ key }: ResolvedSource): boolean {
    return key === this.#sourceKey
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

  /** Claims a new, empty partial. Its identity is recorded before the first byte. */
  static async create(destination: string, source: ResolvedSource, identity: RemoteIdentity): Promise<PartialFile> {
    const record = newRecord(source, identity)
    const claim = await Claim.create(destination, record, new Extents())
    const { data } = claim.paths
    try {
      const handle = await onDisk('creating', data, open(data, 'wx+'))
      return new PartialFile(destination, claim, handle, record, new Extents())
    } catch (error) {
      await claim.drop()
      throw error
    }
  }

  /**
   * Takes over what an earlier download left. `undefined` when it is somebody's, or of no use. The caller has checked
   * `mayResume`.
   *
   * A part of a split model is published by a second name (group.ts). If its publisher died before it removed the first one,
   * what is left is the file at `published`: to write there would be to write into what others read.
   */
  static async adopt(
    leftover: Leftover,
    source: ResolvedSource,
    published: string,
    signal: AbortSignal | undefined,
  ): Promise<PartialFile | undefined> {
    if (await isSameFile(partialPaths(leftover.destination, leftover.id).data, published)) {
      await dropLeftover(leftover)
      return undefined
    }
    const record = resumedRecord(leftover.record, source)
    const extents = resumedExtents(leftover, record)
    const taken = await Claim.take({ ...leftover, extents }, record, signal)
    if (taken === undefined) return undefined
    const partial = new PartialFile(leftover.destination, taken.claim, taken.data, record, extents)
    if (whyNotGguf(await partial.head(ggufHeaderBytes)) === undefined) return partial
    await partial.drop()
    return undefined
  }

  /** Its first bytes, as far as they are on disk. */
  async head(bytes: number): Promise<Uint8Array> {
    const { buffer, bytesRead } = await onDisk(
      'reading',
      this.path,
      this.#handle.read(Buffer.alloc(bytes), 0, bytes, 0),
    )
    return buffer.subarray(0, bytesRead)
  }

  /**
   * Writes bytes at their place. Several writes may be under way at once. When it returns the kernel has the bytes, so that a
   * kill loses none of them but those of the last moment, of which the map does not know.
   */
  async write(position: number, chunks: readonly Buffer[]): Promise<void> {
    const bytes = bytesOf(chunks)
    this.#checkSize()
    await onDisk('writing', this.path, writeFully(this.#handle, chunks, position))
    this.#extents.add(position, position + bytes)
    this.#hash.reach(this.#extents.frontier)
    this.#unsynced += bytes
    if (this.#unsynced >= syncEveryBytes && this.#syncing === undefined) this.#beginSync()
    if (performance.now() - this.#mappedAt >= mapIntervalMs) await this.#writeMap()
    else this.#mapSoon()
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
    await this.#writeMap()
    return this.#hash.digest(this.kept, options)
  }

  async sync(): Promise<void> {
    await this.#syncing
    // The kernel tells a failure once, and calls the next sync a success.
    if (this.#syncFailure) await onDisk('syncing', this.path, Promise.reject(this.#syncFailure.error))
    await onDisk('syncing', this.path, syncHandle(this.#handle))
  }

  /** No more writes. Returns what the file now is, which is nothing but what was written. The claim stays. */
  async close(): Promise<{ bytes: number; mtimeMs: number }> {
    this.#hash.close()
    this.#stopMapping()
    await this.#check()
    await onDisk('closing', this.path, this.#handle.close())
    const { size, mtimeMs } = await onDisk('looking at', this.path, stat(this.path))
    if (size !== this.kept) throw this.#spoilt(`has ${size} bytes where ${this.kept} were written`)
    return { bytes: size, mtimeMs }
  }

  /** After the file has its final name: nothing but the record is left to remove. */
  async forgetRecord(): Promise<void> {
    await this.#claim.drop()
  }

  /**
   * Lets go of the partial, so that anyone may resume it; removes it where nobody could. No write may be under way. Never
   * fails: it is called on the way out with an error that matters more, and a claim that stays ends with this process.
   */
  async giveBack(): Promise<void> {
    if (this.frontier < ggufHeaderBytes || !isResumable(this.identity) || this.#spoiltBy) return this.drop()
    await this.#claim.writeMap(this.#extents)
    // Nobody knows whether the rest will ever come: what was taken for it behind the end goes back to the disk. Not where
    // another machine may have taken the partial while this one slept: the file may be published by now.
    if (this.#claim.isExclusive) await this.#handle.truncate(this.#extents.end).catch(() => {})
    this.#closeSoon()
    await this.#claim.release()
  }

  /** Removes it as wrong. Returns where its beginning is kept, if anywhere. */
  async reject(rejection: Omit<Rejection, 'bytes'>): Promise<string | undefined> {
    const kept = await keepHead(this.#handle, this.destination, { ...rejection, bytes: this.kept })
    await this.drop()
    return kept
  }

  /** Removes the partial and all that belongs to it. Never fails, for the same reason. */
  async drop(): Promise<void> {
    this.#closeSoon()
    await this.#claim.drop()
  }

  /** Somebody else was at it, against all rules: none of its bytes can be relied on. */
  #spoilt(what: string): ModelDownloadError {
    const message = `${this.path} ${what}; something else writes there. Find out what, and try again`
    this.#spoiltBy ??= new SpoiltPartialError('ERR_MODEL_FILE_SYSTEM', message, { path: this.path })
    return this.#spoiltBy
  }

  async #check(): Promise<void> {
    if (!(await this.#claim.isOurs(this.#handle))) throw this.#spoilt('was removed, or is another file by now')
    this.#checkSize()
  }

  /** Before a write hides what somebody has cut off. */
  #checkSize(): void {
    if (this.#spoiltBy) throw this.#spoiltBy
    const farthest = this.#extents.end
    // Not by a thread of the pool, which takes fifty times as long: it is done for each write.
    const { size } = fstatSync(this.#handle.fd)
    if (size < farthest) throw this.#spoilt(`has ${size} bytes where ${farthest} were written`)
  }

  /** For the bytes after which none come for a while. */
  #mapSoon(): void {
    this.#mapTimer ??= setTimeout(() => {
      this.#mapTimer = undefined
      // A partial that is spoilt shows it at the next write, or at the end.
      this.#writeMap().catch(() => {})
    }, mapIntervalMs).unref()
  }

  /** Before each map, a look at whether all is as it was: a map speaks for the bytes to whoever comes next. */
  async #writeMap(): Promise<void> {
    this.#stopMapping()
    this.#mappedAt = performance.now()
    await this.#check()
    await this.#claim.writeMap(this.#extents)
  }

  #stopMapping(): void {
    clearTimeout(this.#mapTimer)
    this.#mapTimer = undefined
  }

  /** Beside the writes that follow. One at a time. */
  #beginSync(): void {
    this.#unsynced = 0
    const fail = (error: unknown) => {
      this.#syncFailure ??= { error }
    }
    this.#syncing = syncData(this.#handle)
      .catch(fail)
      .finally(() => {
        this.#syncing = undefined
      })
  }

  // Not awaited: an fsync that is still under way holds it up, and an abort must not wait for that.
  #closeSoon(): void {
    this.#stopMapping()
    this.#hash.close()
    this.#handle.close().catch(() => {})
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
