// The bytes of an unpublished download, claimed by one process: `<file>.<id>.partial` beside the target, and
// `<file>.<id>.partial.json`, its record, which says what the bytes belong to and who is writing them.
//
// The rules that keep two processes apart even where no lock does:
// - An id is random and never used twice; both files are created with O_EXCL; only the claimant writes.
// - The record comes first and goes last, so a partial without a record is never ours to judge, and a record without
//   a partial whose claimant is gone is mere debris.
// - A partial is taken over by renaming it to an id of one's own, which only one process can win, and only when its
//   claim was given back or its claimant is provably gone.
// - Bytes are only appended, by one stream, so the size on disk is how far it got.
//
// What a resumed prefix is worth: after a kill the page cache has every byte that was written, in order. After a power
// loss it need not: a file may have the right size and zeros at its end. So bytes written before a reboot are resumed
// only when a SHA-256 of the whole file is known, which then decides; with nothing but an ETag they are fetched again.
// Without a SHA-256 there is also no defence against a server or a disk that alters bytes silently.
import { createHash, type Hash, randomBytes } from 'node:crypto'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { currentProcess, isRunning, type ProcessIdentity } from '../mutex/process-identity.ts'
import { ModelDownloadError } from './errors.ts'
import { filePlatform } from './file-platform.ts'
import { onDisk, readSmallJson, removeQuietly, writeNewDurably } from './file-system.ts'
import { ggufHeaderBytes, whyNotGguf } from './gguf-check.ts'
import { type HashOptions, hashFrom } from './hasher.ts'
import type { ResolvedSource } from './source.ts'
import type { RemoteIdentity } from './transfer.ts'

interface PartialRecord extends RemoteIdentity {
  readonly version: 1
  /** For people. */
  readonly source: string
  /** The boot of the machine in which the bytes were written. */
  readonly bootId: string
  /** Who may write; `null` once given back. */
  readonly claim: ProcessIdentity | null
}

/** A partial of this destination that no living process claims. */
export interface Leftover {
  readonly id: string
  readonly record: PartialRecord
  /** Size of the partial; 0 also where there is only a record. */
  readonly bytes: number
}

export class PartialFile {
  readonly destination: string
  readonly path: string
  readonly identity: RemoteIdentity
  readonly #id: string
  readonly #handle: FileHandle
  readonly #record: PartialRecord
  readonly #hash: Hash = createHash('sha256')
  #kept = 0

  private constructor(destination: string, id: string, handle: FileHandle, record: PartialRecord) {
    this.destination = destination
    this.path = partialPath(destination, id)
    this.identity = identityOf(record)
    this.#id = id
    this.#handle = handle
    this.#record = record
  }

  /** How many bytes of the file are here and hashed: where the next one goes. */
  get kept(): number {
    return this.#kept
  }

  /** A free name in the same folder that goes when the partial goes. */
  get manifestDraft(): string {
    return `${this.path}.manifest`
  }

  /** Claims a new, empty partial. Its identity is durable before this resolves, so before the first byte. */
  static async create(destination: string, source: ResolvedSource, identity: RemoteIdentity): Promise<PartialFile> {
    const id = newId()
    const record = newRecord(source, identity)
    await writeRecord(destination, id, record)
    const path = partialPath(destination, id)
    try {
      const handle = await onDisk('creating', path, open(path, 'wx'))
      return new PartialFile(destination, id, handle, record)
    } catch (error) {
      await removeQuietly(recordPath(destination, id))
      throw error
    }
  }

  /**
   * Takes over what another process left and hashes it. `undefined` when it went to somebody else, or is of no use.
   * The caller has checked `mayResume`.
   */
  static async adopt(
    destination: string,
    source: ResolvedSource,
    leftover: Leftover,
    options: HashOptions,
  ): Promise<PartialFile | undefined> {
    const id = newId()
    const record = newRecord(source, adoptedIdentity(leftover.record, source))
    const path = partialPath(destination, id)
    await writeRecord(destination, id, record)
    try {
      await filePlatform.replace(partialPath(destination, leftover.id), path, options.signal)
    } catch {
      // Another process was faster: the old name is gone. (Or somebody has it open, and it stays for a later call.)
      await removeQuietly(recordPath(destination, id))
      return undefined
    }
    await removeQuietly(recordPath(destination, leftover.id))
    const partial = new PartialFile(destination, id, await onDisk('opening', path, open(path, 'r+')), record)
    try {
      if (await partial.#hashKept(options)) return partial
    } catch (error) {
      // Bytes that cannot be read are of no use; an abort says nothing against them.
      if (!(error instanceof ModelDownloadError)) {
        await partial.#endClaim()
        throw error
      }
    }
    await partial.drop()
    return undefined
  }

  /** Appends. Returns when the kernel has the bytes, so that a kill loses none of them. */
  async write(chunk: Uint8Array): Promise<void> {
    const writing = onDisk('writing', this.path, writeFully(this.#handle, chunk, this.#kept))
    this.#hash.update(chunk)
    await writing
    this.#kept += chunk.length
  }

  /** The SHA-256 of all that was written. Once only. */
  digest(): string {
    return this.#hash.digest('hex')
  }

  async sync(): Promise<void> {
    await onDisk('syncing', this.path, this.#handle.sync())
  }

  /** No more writes. Returns what the file now is. */
  async close(): Promise<{ bytes: number; mtimeMs: number }> {
    await onDisk('closing', this.path, this.#handle.close())
    const { size, mtimeMs } = await onDisk('looking at', this.path, stat(this.path))
    return { bytes: size, mtimeMs }
  }

  /** After the file has its final name: nothing but the record is left to remove. */
  async forgetRecord(): Promise<void> {
    await removeQuietly(recordPath(this.destination, this.#id))
  }

  /**
   * Lets go of the partial, so that anyone may resume it; removes it where nobody could. Never fails: it is called on
   * the way out with an error that matters more, and a claim that stays ends with this process.
   */
  async giveBack(): Promise<void> {
    if (this.#kept < ggufHeaderBytes || !isResumable(this.identity)) return this.drop()
    await this.#endClaim()
  }

  /** Removes the partial and all that belongs to it. Never fails, for the same reason. */
  async drop(): Promise<void> {
    this.#closeSoon()
    await dropFiles(this.destination, this.#id)
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
    this.#handle.close().catch(() => {})
  }

  async #hashKept(options: HashOptions): Promise<boolean> {
    const { size } = await onDisk('looking at', this.path, this.#handle.stat())
    const total = this.identity.bytes
    if (size < ggufHeaderBytes || (total !== undefined && size > total)) return false
    const head = Buffer.alloc(ggufHeaderBytes)
    await onDisk('reading', this.path, this.#handle.read(head, 0, head.length, 0))
    if (whyNotGguf(head)) return false
    // Of a complete partial the last byte is fetched again, so that one and the same way of asking the server whether
    // it still has this version serves every partial.
    const bytes = total === undefined ? size : Math.min(size, total - 1)
    this.#kept = await hashFrom(this.#handle, this.path, bytes, this.#hash, options)
    return true
  }
}

/** All partials of a destination that no living process claims. Unreadable ones may be somebody's: they stay. */
export async function findLeftovers(destination: string): Promise<Leftover[]> {
  const folder = dirname(destination)
  const start = `${basename(destination)}.`
  const names = await onDisk('listing', folder, readdir(folder))
  const leftovers: Leftover[] = []
  for (const name of names) {
    const id = name.startsWith(start) ? /^([0-9a-f]{8})\.partial\.json$/.exec(name.slice(start.length))?.[1] : undefined
    if (id === undefined) continue
    const record = parseRecord(await readSmallJson(join(folder, name)))
    if (!record || (record.claim && isRunning(record.claim) !== false)) continue
    const bytes = await stat(partialPath(destination, id)).then(
      (stats) => stats.size,
      () => 0,
    )
    leftovers.push({ id, record, bytes })
  }
  return leftovers.sort((a, b) => b.bytes - a.bytes)
}

export async function dropLeftovers(destination: string, leftovers: readonly Leftover[]): Promise<void> {
  for (const leftover of leftovers) await dropFiles(destination, leftover.id)
}

/** Whether a leftover's bytes can be the beginning of what `source` asks for, as far as can be told without asking. */
export function mayResume({ record, bytes }: Leftover, source: ResolvedSource): boolean {
  if (bytes < ggufHeaderBytes) return false
  if (differ(record.bytes, source.bytes) || differ(record.sha256, source.sha256)) return false
  const sha256 = record.sha256 ?? source.sha256
  if (record.sourceKey !== source.key) return record.sha256 !== undefined && record.sha256 === source.sha256
  return sha256 !== undefined || (record.etag !== undefined && record.bootId === currentProcess().bootId)
}

/** Whether the remote file is still the one that a partial's bytes came from. */
export function isSameRemote(kept: RemoteIdentity, remote: RemoteIdentity): boolean {
  if (differ(kept.bytes, remote.bytes) || differ(kept.sha256, remote.sha256)) return false
  if (kept.etag !== undefined && remote.etag !== undefined) return kept.etag === remote.etag
  if (differ(kept.lastModified, remote.lastModified)) return false
  return kept.sha256 !== undefined && remote.sha256 !== undefined
}

/** A weak identity cannot prove that the rest belongs to what is here. */
export function isResumable(identity: RemoteIdentity): boolean {
  return identity.etag !== undefined || identity.sha256 !== undefined
}

function differ<T>(a: T | undefined, b: T | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b
}

/** What was recorded of another URL with the same SHA-256 says nothing about this one, but for the content. */
function adoptedIdentity(record: PartialRecord, source: ResolvedSource): RemoteIdentity {
  const { sha256 = source.sha256, ...identity } = identityOf(record)
  const content = {
    sourceKey: source.key,
    ...(record.bytes !== undefined && { bytes: record.bytes }),
    ...(sha256 !== undefined && { sha256 }),
  }
  return record.sourceKey === source.key ? { ...identity, ...content } : content
}

function newId(): string {
  return randomBytes(4).toString('hex')
}

function partialPath(destination: string, id: string): string {
  return `${destination}.${id}.partial`
}

function recordPath(destination: string, id: string): string {
  return `${partialPath(destination, id)}.json`
}

function newRecord(source: ResolvedSource, identity: RemoteIdentity): PartialRecord {
  const claim = currentProcess()
  return { version: 1, source: source.label, ...identity, bootId: claim.bootId, claim }
}

async function writeRecord(destination: string, id: string, record: PartialRecord): Promise<void> {
  const path = recordPath(destination, id)
  await onDisk('writing', path, writeNewDurably(path, JSON.stringify(record)))
  await onDisk('syncing', dirname(path), filePlatform.syncFolder(dirname(path)))
}

async function dropFiles(destination: string, id: string): Promise<void> {
  const path = partialPath(destination, id)
  await removeQuietly(path)
  await removeQuietly(`${path}.manifest`)
  await removeQuietly(recordPath(destination, id))
}

async function writeFully(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  // A nearly full disk takes fewer bytes than it is given, and refuses only the next write.
  for (let at = 0; at < chunk.length; ) {
    at += (await handle.write(chunk, at, chunk.length - at, position + at)).bytesWritten
  }
}

function identityOf(record: PartialRecord): RemoteIdentity {
  const { version, source, bootId, claim, ...identity } = record
  return identity
}

function parseRecord(value: Record<string, unknown> | undefined): PartialRecord | undefined {
  const optional = (name: string, type: string) => value?.[name] === undefined || typeof value[name] === type
  const isRecord =
    value?.version === 1 &&
    typeof value.sourceKey === 'string' &&
    typeof value.bootId === 'string' &&
    optional('bytes', 'number') &&
    optional('etag', 'string') &&
    optional('sha256', 'string') &&
    optional('lastModified', 'string') &&
    (value.claim === null || isProcessIdentity(value.claim))
  return isRecord ? (value as unknown as PartialRecord) : undefined
}

function isProcessIdentity(value: unknown): boolean {
  const claim = value as Partial<Record<keyof ProcessIdentity, unknown>> | undefined
  return (
    typeof claim?.pid === 'number' &&
    typeof claim.processStart === 'number' &&
    typeof claim.host === 'string' &&
    typeof claim.bootId === 'string' &&
    typeof claim.pidSpace === 'number'
  )
}
