// The evidence of the crash storm: each thread appends records of a fixed size to a journal of its own. A record is one write(2), so
// the kernel has all of it or nothing when the writer is killed: a write to the page cache is given up between two pages at most, and
// 64 bytes at a multiple of 64 lie in one.
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs'

/** In the order in which a thread writes them. */
const kinds = [
  /** The journal's first record: who writes it, `number` of all threads and `process` of all processes of the storm. */
  'began',
  /** Before an acquire is called. */
  'wants',
  /** The acquire gave the lock. Stamped after that, and written before the counter is. */
  'owns',
  /** The counter is written. Stamped before the release is called. */
  'leaves',
  /** The release has returned. */
  'released',
  /** The acquire ended without the lock: its mutex was taken, its time was up, or it was aborted. */
  'refused',
  /** Stamped before the thread with the id `subject` is ended, by whoever ends it. */
  'ends thread',
  /** The same of all threads of the process with the number `subject`. */
  'ends process',
] as const
type Kind = (typeof kinds)[number]

const hows = ['acquire', 'tryAcquire', 'acquireSync', 'withLock', 'acquireAll'] as const
export type How = (typeof hows)[number]

const refusals = ['taken', 'timeout', 'abort', 'deadlock'] as const
export type Refusal = (typeof refusals)[number]

/** One acquisition: of a thread, and the how manieth of it. Those of one acquireAll have the same number. */
export interface Acquisition {
  readonly actor: number
  readonly number: number
}

export interface Entry {
  readonly kind: Kind
  /** Of the machine's monotonic clock (`process.hrtime`, CLOCK_MONOTONIC on Linux): the same for all processes. */
  readonly stamp: bigint
  readonly mutex?: number
  readonly number?: number
  readonly how?: How
  readonly refusal?: Refusal
  /** What an owner found in the counter, and whose update was the last. */
  readonly value?: number
  readonly writer?: Acquisition
  /** `abandoned` was told, of this owner by its record. `undefined` where it has none. */
  readonly abandoned?: boolean
  readonly previous?: (Acquisition & { readonly pid: number; readonly thread: number }) | undefined
  readonly subject?: number
  readonly process?: number
  readonly pid?: number
  readonly thread?: number
}

const entryBytes = 64
const noActor = 0xffff_ffff

export function now(): bigint {
  return process.hrtime.bigint()
}

export class Journal {
  readonly #descriptor: number
  readonly #bytes = Buffer.alloc(entryBytes)

  constructor(path: string) {
    this.#descriptor = openSync(path, 'ax')
  }

  write(entry: Entry): void {
    const bytes = this.#bytes
    bytes[0] = kinds.indexOf(entry.kind)
    bytes[1] = entry.mutex ?? 0
    bytes[2] = entry.abandoned ? 1 : 0
    bytes[3] = hows.indexOf(entry.how ?? 'acquire')
    bytes[4] = refusals.indexOf(entry.refusal ?? 'taken')
    bytes.writeBigUInt64LE(entry.stamp, 8)
    bytes.writeUInt32LE(entry.number ?? 0, 16)
    bytes.writeUInt32LE(entry.value ?? 0, 20)
    bytes.writeUInt32LE(entry.writer?.actor ?? 0, 24)
    bytes.writeUInt32LE(entry.writer?.number ?? 0, 28)
    bytes.writeUInt32LE(entry.previous?.actor ?? noActor, 32)
    bytes.writeUInt32LE(entry.previous?.number ?? 0, 36)
    bytes.writeUInt32LE(entry.previous?.pid ?? 0, 40)
    bytes.writeUInt32LE(entry.previous?.thread ?? 0, 44)
    bytes.writeUInt32LE(entry.subject ?? 0, 48)
    bytes.writeUInt32LE(entry.process ?? 0, 52)
    bytes.writeUInt32LE(entry.pid ?? 0, 56)
    bytes.writeUInt32LE(entry.thread ?? 0, 60)
    if (writeSync(this.#descriptor, bytes) !== entryBytes) throw new Error('A journal took part of a record')
  }

  close(): void {
    closeSync(this.#descriptor)
  }
}

/** Reads the file each time that it is gone through: all of a long storm at once would be too much. */
export class JournalFile implements Iterable<Entry> {
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  *[Symbol.iterator](): Iterator<Entry> {
    const bytes = readFileSync(this.#path)
    if (bytes.length % entryBytes !== 0) throw new Error(`${this.#path} ends with part of a record`)
    for (let offset = 0; offset < bytes.length; offset += entryBytes) {
      yield decode(bytes.subarray(offset, offset + entryBytes))
    }
  }
}

function decode(bytes: Buffer): Entry {
  const u32 = (offset: number) => bytes.readUInt32LE(offset)
  const entry = {
    kind: at(kinds, bytes[0]),
    stamp: bytes.readBigUInt64LE(8),
    mutex: bytes[1] ?? 0,
    number: u32(16),
  }
  switch (entry.kind) {
    case 'began':
      return { ...entry, process: u32(52), pid: u32(56), thread: u32(60) }
    case 'wants':
      return { ...entry, how: at(hows, bytes[3]) }
    case 'owns': {
      const previous = { actor: u32(32), number: u32(36), pid: u32(40), thread: u32(44) }
      return {
        ...entry,
        value: u32(20),
        writer: { actor: u32(24), number: u32(28) },
        abandoned: bytes[2] === 1,
        previous: previous.actor === noActor ? undefined : previous,
      }
    }
    case 'refused':
      return { ...entry, refusal: at(refusals, bytes[4]) }
    case 'ends thread':
    case 'ends process':
      return { ...entry, subject: u32(48) }
    default:
      return entry
  }
}

function at<T>(list: readonly T[], index: number | undefined): T {
  const found = list[index ?? -1]
  if (found === undefined) throw new Error(`A journal has a record of an unknown kind (${index})`)
  return found
}
