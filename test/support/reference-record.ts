// A second hand at reading a lock file (native/owner_record.h says what is in one), to tell what a mutex must make of any bytes.
import type { OwnerInfo, OwnerProgress } from 'os-mutex'
import { lockFileBytes } from './lock-file-bytes.ts'

const limit = 4096
const headerBytes = 26
const version = '1 '

/** What whoever acquires a free mutex must be told, by the bytes of its lock file. */
export interface Told {
  readonly abandoned: boolean
  readonly previousOwner: OwnerInfo | undefined
}

export function toldBy(file: Buffer): Told {
  // Windows maps the file, which has this size from then on.
  const bytes =
    process.platform === 'win32' ? Buffer.concat([file, Buffer.alloc(limit)], limit) : file.subarray(0, limit)
  const abandoned = bytes.toString('latin1', 1, 4) === `H${version}`
  return { abandoned, previousOwner: abandoned ? ownerOf(bytes) : undefined }
}

function ownerOf(bytes: Buffer): OwnerInfo | undefined {
  const digits = bytes.toString('latin1', 4, 8)
  if (bytes.length < headerBytes || !/^[0-9a-f]{4}$/.test(digits)) return undefined
  const json = bytes.subarray(headerBytes, headerBytes + Number.parseInt(digits, 16))
  const whole = lockFileBytes('held', json.toString())
  // No checksum of invalid UTF-8 is ever right here: none of the tests makes one.
  const isWhole = ([from, to]: [number, number]) => whole.compare(bytes, from, to, from, to) === 0
  return isWhole([4, 8]) && isWhole([9, 25]) ? parsed(json.toString()) : undefined
}

const texts = ['host', 'bootId', 'app', 'purpose'] as const
const counts = ['processStart', 'pidSpace', 'threadId', 'since'] as const

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0
}

function parsed(json: string): OwnerInfo | undefined {
  let record: Record<string, unknown> | null
  try {
    record = JSON.parse(json)
  } catch {
    return undefined
  }
  if (record === null || !isCount(record.pid)) return undefined
  const owner: Record<string, unknown> = { pid: record.pid }
  for (const key of counts) if (isCount(record[key])) owner[key] = record[key]
  for (const key of texts) if (typeof record[key] === 'string') owner[key] = record[key].slice(0, 256)
  const progress = progressOf(record.progress as Record<string, unknown> | null)
  if (progress !== undefined) owner.progress = progress
  if (record.collected === true) owner.collected = true
  return owner as unknown as OwnerInfo
}

function progressOf(value: Record<string, unknown> | null | undefined): OwnerProgress | undefined {
  if (!isCount(value?.done)) return undefined
  const { done, total, unit, sequence, monotonicMs } = value
  return {
    done,
    ...(isCount(total) ? { total } : {}),
    ...(typeof unit === 'string' ? { unit: unit.slice(0, 256) } : {}),
    sequence: isCount(sequence) ? sequence : 0,
    monotonicMs: isCount(monotonicMs) ? monotonicMs : 0,
  }
}

/** Throws where a field of what is said of an owner is not what its type says. */
export function checkOwner(owner: OwnerInfo): void {
  const { pid, progress, confirmed = false, collected = true, ...rest } = owner
  if (typeof confirmed !== 'boolean' || collected !== true) throw new Error(`No owner: ${JSON.stringify(owner)}`)
  const typesOf = Object.entries(rest).map(([key, value]) => [key, typeof value])
  const expected = Object.keys(rest).map((key) => [key, texts.some((one) => one === key) ? 'string' : 'number'])
  if (!isCount(pid) || String(typesOf) !== String(expected)) throw new Error(`No owner: ${JSON.stringify(owner)}`)
  const isProgress = progress === undefined || (isCount(progress.done) && isCount(progress.sequence))
  if (!isProgress) throw new Error(`No progress: ${JSON.stringify(owner)}`)
}
