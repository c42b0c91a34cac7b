// The bytes of an unpublished download, claimed by one thread of one process: `<file>.<id>.partial` beside the target, and
// `<file>.<id>.partial.json`, its record, which says what the bytes belong to and who is writing them.
//
// A partial grows at its end, and its size is how far it got. Where several connections may fill it in, the record says so
// (`inSegments`), and `<file>.<id>.partial.map` tells which bytes are there (see partial-map.ts); without a map they are none.
//
// The rules that keep two processes apart even where no lock does:
// - An id is random and never used twice; its files are created with O_EXCL; only the claimant writes.
// - The record comes first and goes last, so a partial without a record is never ours to judge, and a record without
//   a partial whose claimant is gone is mere debris.
// - A partial is taken over by renaming it to an id of one's own, which only one process can win, and only when its
//   claim was given back or its claimant is provably gone: its process, or, by the word of the lock that it left, its thread.
//   The map under that id is a copy made before. (What a thread was writing when it ended may still land. It lands where it
//   belongs, in the same version of the file, so it changes nothing.)
//
// What a resumed prefix is worth: after a kill the page cache has every byte that was written, in order. After a power
// loss it need not: a file may have the right size and zeros at its end. So bytes written before a reboot are resumed
// only when a SHA-256 of the whole file is known, which then decides; with nothing but an ETag they are fetched again.
// Without a SHA-256 there is also no defence against a server or a disk that alters bytes silently.
import { readdir, readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { threadId } from 'node:worker_threads'
import { currentProcess, isRunning, type ProcessIdentity } from '../../mutex/process-identity.ts'
import { onDisk, readSmallJson, removeQuietly, writeNewDurably } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { ggufHeaderBytes } from '../gguf/header.ts'
import type { RemoteIdentity } from '../http/remote.ts'
import type { ResolvedSource } from '../source/parse.ts'
import { decodeMap } from './extent-map.ts'
import { Extents } from './extents.ts'

export interface PartialRecord extends RemoteIdentity {
  readonly version: 1
  /** For people. */
  readonly source: string
  /** Only a map tells which bytes are there. Else the size of the partial does. */
  readonly inSegments?: boolean
  /** The boot of the machine in which the bytes were written. */
  readonly bootId: string
  /** Who may write; `null` once given back. */
  readonly claim: Claim | null
}

export interface Claim extends ProcessIdentity {
  /** `0` is the main thread. A thread's number is not given to another one of its process. */
  readonly threadId: number
}

/** A partial of this destination that no living process claims. */
export interface Leftover {
  readonly id: string
  readonly record: PartialRecord
  /** Which bytes of the file are there; none also where there is only a record. */
  readonly extents: Extents
}

/** All partials of a destination that no living process claims, the fullest first. Unreadable ones may be somebody's: they stay. */
export async function findLeftovers(destination: string, dead?: DeadOwner): Promise<Leftover[]> {
  const folder = dirname(destination)
  const start = `${basename(destination)}.`
  const names = await onDisk('listing', folder, readdir(folder))
  const leftovers: Leftover[] = []
  for (const name of names) {
    const id = name.startsWith(start) ? /^([0-9a-f]{8})\.partial\.json$/.exec(name.slice(start.length))?.[1] : undefined
    if (id === undefined) continue
    const record = parseRecord(await readSmallJson(join(folder, name)))
    if (!record || isAlive(record, dead)) continue
    leftovers.push({ id, record, extents: await extentsOf(destination, id, record) })
  }
  return leftovers.sort((a, b) => b.extents.bytes - a.extents.bytes)
}

/** A thread that is known to have ended, though its process may run on: the kernel has told so by its mutex. */
export interface DeadOwner {
  readonly pid: number
  readonly processStart?: number
  readonly bootId?: string
  readonly threadId?: number
}

function isAlive({ claim }: PartialRecord, dead?: DeadOwner): boolean {
  if (claim === null) return false
  const isDead =
    dead?.pid === claim.pid &&
    dead.processStart === claim.processStart &&
    dead.bootId === claim.bootId &&
    dead.threadId === claim.threadId
  return !isDead && isRunning(claim) !== false
}

/** Whether this is the record of a partial that a process claims which may be alive. */
export function isClaimed(value: Record<string, unknown> | undefined): boolean {
  const record = parseRecord(value)
  return record !== undefined && isAlive(record)
}

async function extentsOf(destination: string, id: string, record: PartialRecord): Promise<Extents> {
  const size = await stat(partialPath(destination, id)).then(
    (stats) => stats.size,
    () => 0,
  )
  if (!record.inSegments) return new Extents([{ start: 0, end: size }])
  if (size > (record.bytes ?? 0)) return new Extents()
  const map = await readFile(mapPath(destination, id)).catch(() => undefined)
  // A partial that somebody has cut has not what its map says; one that is longer than the file is somebody else's.
  return (map && decodeMap(map, Math.min(size, record.bytes ?? 0))?.extents) ?? new Extents()
}

export async function dropLeftovers(destination: string, leftovers: readonly Leftover[]): Promise<void> {
  for (const leftover of leftovers) await dropFiles(destination, leftover.id)
}

/** Whether a leftover's bytes can be the beginning of what `source` asks for, as far as can be told without asking. */
export function mayResume({ record, extents }: Leftover, source: ResolvedSource): boolean {
  if (extents.frontier < ggufHeaderBytes || extents.end > (record.bytes ?? extents.end)) return false
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
export function adoptedIdentity(record: PartialRecord, source: ResolvedSource): RemoteIdentity {
  const { sha256 = source.sha256, ...identity } = identityOf(record)
  const content = {
    sourceKey: source.key,
    ...(record.bytes !== undefined && { bytes: record.bytes }),
    ...(sha256 !== undefined && { sha256 }),
  }
  return record.sourceKey === source.key ? { ...identity, ...content } : content
}

export function partialPath(destination: string, id: string): string {
  return `${destination}.${id}.partial`
}

export function recordPath(destination: string, id: string): string {
  return `${partialPath(destination, id)}.json`
}

export function mapPath(destination: string, id: string): string {
  return `${partialPath(destination, id)}.map`
}

/** A free name in the same folder that goes when the partial goes. */
export function manifestDraftPath(destination: string, id: string): string {
  return `${partialPath(destination, id)}.manifest`
}

export function newRecord(source: ResolvedSource, identity: RemoteIdentity, inSegments: boolean): PartialRecord {
  const claim = { ...currentProcess(), threadId }
  return {
    version: 1,
    source: source.label,
    ...identity,
    ...(inSegments && { inSegments }),
    bootId: claim.bootId,
    claim,
  }
}

export async function writeRecord(destination: string, id: string, record: PartialRecord): Promise<void> {
  const path = recordPath(destination, id)
  await onDisk('writing', path, writeNewDurably(path, JSON.stringify(record)))
  await onDisk('syncing', dirname(path), filePlatform.syncFolder(dirname(path)))
}

export async function dropFiles(destination: string, id: string): Promise<void> {
  await removeQuietly(partialPath(destination, id))
  await removeQuietly(manifestDraftPath(destination, id))
  await forgetRecord(destination, id)
}

/** Removes what tells of a partial that is gone, or has become the published file. */
export async function forgetRecord(destination: string, id: string): Promise<void> {
  await removeQuietly(mapPath(destination, id))
  await removeQuietly(recordPath(destination, id))
}

export function identityOf(record: PartialRecord): RemoteIdentity {
  const { version, source, inSegments, bootId, claim, ...identity } = record
  return identity
}

function parseRecord(value: Record<string, unknown> | undefined): PartialRecord | undefined {
  const optional = (name: string, type: string) => value?.[name] === undefined || typeof value[name] === type
  const isRecord =
    value?.version === 1 &&
    typeof value.sourceKey === 'string' &&
    typeof value.bootId === 'string' &&
    optional('bytes', 'number') &&
    optional('inSegments', 'boolean') &&
    optional('etag', 'string') &&
    optional('sha256', 'string') &&
    optional('lastModified', 'string') &&
    (value.claim === null || isClaim(value.claim))
  return isRecord ? (value as unknown as PartialRecord) : undefined
}

function isClaim(value: unknown): boolean {
  const claim = value as Partial<Record<keyof Claim, unknown>> | undefined
  return (
    typeof claim?.pid === 'number' &&
    typeof claim.processStart === 'number' &&
    typeof claim.host === 'string' &&
    typeof claim.bootId === 'string' &&
    typeof claim.pidSpace === 'number' &&
    typeof claim.threadId === 'number'
  )
}
