// What is left of earlier downloads of a file, and what of it can be gone on with.
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { currentProcess } from '../../mutex/process-identity.ts'
import { ownNameOf, partialPaths } from '../disk/file-names.ts'
import { onDisk } from '../disk/files.ts'
import { ggufHeaderBytes } from '../gguf/header.ts'
import { isStrong, type RemoteIdentity, strengthOf } from '../http/identity.ts'
import type { ResolvedSource } from '../source/parse.ts'
import type { Leftover } from './claim.ts'
import { type Extent, Extents } from './extents.ts'
import { type PartialRecord, readRecord } from './record.ts'

/** All partials of a destination, the fullest first. Some may have an owner: only taking them shows it. */
export async function findLeftovers(destination: string): Promise<Leftover[]> {
  const leftovers: Leftover[] = []
  for (const { id, found } of await recordsOf(destination)) {
    if (found === 'empty') continue
    leftovers.push({ destination, id, record: found.record, extents: await present(found, destination, id) })
  }
  return leftovers.sort((a, b) => b.extents.bytes - a.extents.bytes)
}

/** As above, with those whose maker was killed before it wrote what they are. */
export async function findDebris(destination: string): Promise<Pick<Leftover, 'destination' | 'id'>[]> {
  return (await recordsOf(destination)).map(({ id }) => ({ destination, id }))
}

type Found = Exclude<Awaited<ReturnType<typeof readRecord>>, undefined>

async function recordsOf(destination: string): Promise<{ id: string; found: Found }[]> {
  const folder = dirname(destination)
  const records: { id: string; found: Found }[] = []
  for (const name of await onDisk('listing', folder, readdir(folder))) {
    const own = ownNameOf(name)
    if (own?.kind !== 'record' || own.destination !== basename(destination)) continue
    const found = await readRecord(join(folder, name))
    if (found !== undefined) records.push({ id: own.id, found })
  }
  return records
}

/** A partial that somebody has cut has not what its map says; one that is longer than the file is somebody else's. */
async function present(
  { record, extents }: { record: PartialRecord; extents: Extents },
  destination: string,
  id: string,
): Promise<Extents> {
  const size = await stat(partialPaths(destination, id).data).then(
    (stats) => stats.size,
    () => 0,
  )
  return size < extents.end || size > (record.bytes ?? size) ? new Extents() : extents
}

/** Whether a leftover's bytes can be of the file that `source` asks for, as far as can be told without asking. */
export function mayResume({ record, extents }: Leftover, source: ResolvedSource): boolean {
  if (record.kind !== 'download' || extents.frontier < ggufHeaderBytes) return false
  if (differ(record.bytes, source.bytes) || differ(record.sha256, source.sha256)) return false
  if (record.sha256 !== undefined && record.sha256 === source.sha256) return true
  const isSamePlace = record.sourceKey === source.key || record.placeKey === source.placeKey
  if (!isSamePlace) return false
  // Of another query of the same place only the server can tell whether it is the same file.
  if (record.sourceKey !== source.key && !isStrong(record.etag)) return false
  if (record.sha256 !== undefined || source.sha256 !== undefined) return record.sourceKey === source.key
  return isResumable(record) && record.bootId === currentProcess().bootId
}

/** Whether anything can prove that the rest belongs to what is here. */
export function isResumable(identity: RemoteIdentity): boolean {
  return strengthOf(identity) !== 'none'
}

/**
 * The record under which this process goes on with a leftover. What was recorded of another URL with the same SHA-256 says
 * nothing about this one, but for the content.
 */
export function resumedRecord(record: PartialRecord, source: ResolvedSource): PartialRecord {
  const { sha256 = source.sha256 } = record
  const known = { ...record, bootId: currentProcess().bootId, ...(sha256 !== undefined && { sha256 }) }
  if (record.sourceKey === source.key || record.placeKey === source.placeKey) return known
  const { etag: _, lastModified: __, isSettled: ___, ...content } = known
  return { ...content, source: source.label, sourceKey: source.key, placeKey: source.placeKey }
}

export function newRecord(
  source: ResolvedSource,
  identity: RemoteIdentity,
  kind: PartialRecord['kind'] = 'download',
): PartialRecord {
  return {
    version: 1,
    kind,
    source: source.label,
    sourceKey: source.key,
    placeKey: source.placeKey,
    ...identity,
    bootId: currentProcess().bootId,
  }
}

/**
 * What of a leftover counts as here. Without a SHA-256 the last byte of a complete one does not: that the server still has
 * this version is found out by asking for it.
 */
export function resumedExtents({ extents }: Leftover, record: PartialRecord): Extents {
  if (record.sha256 !== undefined) return extents
  const limit = (record.bytes ?? Number.POSITIVE_INFINITY) - 1
  const upTo = ({ start, end }: Extent) => ({ start, end: Math.min(end, limit) })
  return new Extents(extents.ranges.map(upTo))
}

function differ<T>(a: T | undefined, b: T | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b
}
