// Who may write a partial: whoever holds the kernel's lock on its record. The lock goes with its process, so a partial
// whose record can be locked is nobody's, in whatever container, under whatever host name or user its writer ran.
//
// Where one kernel does not see every lock (isOneKernel), the lock is needed and is not enough: there a partial is also
// somebody's until its record bears the boot id of this machine, whose locks this kernel does see, or has not changed for
// six hours by the file server's own clock. Where there are no locks at all, six hours are all there is.
//
// The rules, which hold even where no lock does:
//
// - An id is random and never used twice. Its files are made with O_EXCL, and only its owner writes them.
// - The record comes first and goes last. So data without a record is never ours to judge.
// - A partial is taken over by a rename of its data to an id of one's own, which only one process can win. The new record,
//   with a copy of the map, is there before the rename, the old one goes after it:
//     1  new record made and locked   a kill leaves the old partial, and a record without data
//     2  data renamed                 the new partial, and a record without data
//     3  old record removed           the new partial
// - A record may be removed, or renamed away, between its opening and its locking: after each lock the name is compared
//   with the locked file (holdFile), also by who has just made it. Until it is locked it is empty, and says nothing.
// - Before each write of the map and before it publishes, the owner compares the names of record and data with what it has
//   open. One that slept for six hours on a network file system finds that they are not its own any more, and ends. What
//   it was writing then may still land in the data: it is of the same version, and belongs where it lands. It cuts nothing
//   off: by then the data may be published (isExclusive).
// - Data without a record stay behind in one case: their owner slept for six hours between making the record and naming the
//   data, and as it woke up it was killed, or the record was just being removed.
//
// docs/protocol/partial.pml is a model of this.
import { closeSync, openSync, statSync, writeSync } from 'node:fs'
import { type FileHandle, open, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import {
  type FileHold,
  holdFile,
  holdNewFile,
  isLockMandatory,
  isOneKernel,
  type NoHold,
} from '../../mutex/file-hold.ts'
import { currentProcess } from '../../mutex/process-identity.ts'
import { type PartialPaths, partialPaths } from '../disk/file-names.ts'
import { onDisk, randomId, removeQuietly, serverTime } from '../disk/files.ts'
import { filePlatform } from '../disk/platform.ts'
import { errnoOf } from '../errors.ts'
import { encodeMap } from './extent-map.ts'
import type { Extents } from './extents.ts'
import { encodeRecord, headBytes, type PartialRecord, readRecord } from './record.ts'

/** How long nothing may have happened to a partial on a network file system before another machine takes it. */
const stillMs = 6 * 3_600_000
const mostIds = 10

/** A partial that nobody may be writing. */
export interface Leftover {
  readonly destination: string
  readonly id: string
  readonly record: PartialRecord
  readonly extents: Extents
}

/** The lock of a partial, its record, and the right to write its data. */
export class Claim {
  readonly paths: PartialPaths
  readonly #hold: OwnHold
  readonly #record: FileHandle
  #sequence = 0
  #writing: Promise<void> | undefined

  private constructor(paths: PartialPaths, hold: OwnHold, record: FileHandle) {
    this.paths = paths
    this.#hold = hold
    this.#record = record
  }

  /** Claims an id that nobody has, with its record. There is no data yet. */
  static async create(destination: string, record: PartialRecord, extents: Extents): Promise<Claim> {
    for (let ids = 1; ; ids++) {
      const paths = partialPaths(destination, randomId())
      const hold = await onDisk('creating', paths.record, makeLocked(paths, encodeRecord(record, extents)))
      if (hold !== undefined) {
        try {
          return new Claim(paths, hold, await onDisk('opening', paths.record, open(paths.record, 'r+')))
        } catch (error) {
          await removePartial(paths)
          hold.release()
          throw error
        }
      }
      if (ids === mostIds) {
        await onDisk('locking', paths.record, Promise.reject(new Error('others remove it as soon as it is there')))
      }
    }
  }

  /**
   * Takes a leftover's data to a claim of one's own. `undefined` if it went to somebody else, may still be somebody's, or
   * can't be written: then it is removed, where that is possible.
   */
  static async take(
    { destination, id, extents }: Leftover,
    record: PartialRecord,
    signal: AbortSignal | undefined,
  ): Promise<{ claim: Claim; data: FileHandle } | undefined> {
    const old = partialPaths(destination, id)
    using hold = await holdLeftover(old)
    if (hold === undefined) return undefined
    const data = await open(old.data, 'r+').catch((error: unknown) => {
      // Otherwise it would be the room for all of it that is missing here, and not the right to write.
      if (errnoOf(error) === 'EROFS') return onDisk('opening', old.data, Promise.reject(error))
      return undefined
    })
    if (data === undefined) {
      await removePartial(old)
      return undefined
    }
    const claim = await Claim.create(destination, record, extents).catch(async (error: unknown) => {
      await data.close()
      throw error
    })
    try {
      await filePlatform.replace(old.data, claim.paths.data, signal)
      if (!(await claim.isOurs(data))) throw new Error('somebody else was faster')
    } catch {
      await data.close()
      await claim.drop()
      return undefined
    }
    await removePartial(old)
    return { claim, data }
  }

  /** Whether nobody can have taken it while this process slept: it has a lock that every taker must see. */
  get isExclusive(): boolean {
    return this.#hold.isLocked && isOneKernel(dirname(this.paths.record))
  }

  /** Whether both names still lead to what is locked and open here. */
  async isOurs(data: FileHandle): Promise<boolean> {
    if (!this.#hold.isNamed()) return false
    const [ours, there] = await Promise.all([
      data.stat({ bigint: true }),
      stat(this.paths.data, { bigint: true }).catch(() => undefined),
    ])
    // In one folder, and open here, so that nothing else has the number. Wine forgets the device of a file that was renamed.
    return there?.ino === ours.ino
  }

  /**
   * Notes which bytes are there. One after the other, or an older copy could come out newer on disk. A map that can't be
   * written costs only a resumption.
   */
  writeMap(extents: Extents): Promise<void> {
    const write = async () => {
      const { copy, offset } = encodeMap(extents, ++this.#sequence)
      await this.#record.write(copy, 0, copy.length, headBytes + offset).catch(() => {})
    }
    this.#writing = this.#writing === undefined ? write() : this.#writing.then(write)
    return this.#writing
  }

  /** Lets go of it: from now on anyone may take it. */
  async release(): Promise<void> {
    await this.#writing
    await this.#record.close().catch(() => {})
    this.#hold.release()
  }

  /** Removes the record, and the data where it still has this name. Never fails. */
  async drop(): Promise<void> {
    await removePartial(this.paths)
    await this.release()
  }
}

/** Removes a leftover. False: it may be somebody's, or went to somebody meanwhile. */
export async function dropLeftover({ destination, id }: Pick<Leftover, 'destination' | 'id'>): Promise<boolean> {
  const paths = partialPaths(destination, id)
  using hold = await holdLeftover(paths)
  if (hold === undefined) return false
  await removePartial(paths)
  return true
}

/** Locks what seems to be nobody's. `undefined`: it is somebody's after all, gone, or nobody can tell. */
async function holdLeftover(paths: PartialPaths): Promise<Disposable | undefined> {
  const lockPath = lockPathOf(paths)
  let hold: FileHold | NoHold
  try {
    // Its owner may have ended before it had made the lock file.
    hold = lockPath === paths.lock ? holdNewFile(lockPath) : holdFile(lockPath)
  } catch {
    return undefined
  }
  if (hold === 'taken' || hold === 'gone') return undefined
  if (hold === 'unlockable') return (await isStill(paths)) ? { [Symbol.dispose]: () => {} } : undefined
  const held = hold
  const isFree = isOneKernel(dirname(lockPath)) || (await isOfThisMachine(paths)) || (await isStill(paths))
  if (isFree) return { [Symbol.dispose]: () => held.release() }
  held.release()
  return undefined
}

/** Its owner was on this machine, whose kernel has just said that he is gone. Windows has no boot id that tells two apart. */
async function isOfThisMachine({ record }: PartialPaths): Promise<boolean> {
  if (process.platform === 'win32') return false
  const found = await readRecord(record)
  return typeof found === 'object' && found.record.bootId === currentProcess().bootId
}

async function isStill({ record, data }: PartialPaths): Promise<boolean> {
  const times = await Promise.all([record, data].map((path) => stat(path).catch(() => undefined)))
  const latest = Math.max(...times.map((stats) => stats?.mtimeMs ?? 0))
  const now = await serverTime(dirname(record))
  return now !== undefined && now - latest >= stillMs
}

/** What its owner has of a record: that it is this file, and, where the file system has any, its lock. */
interface OwnHold {
  readonly isLocked: boolean
  isNamed(): boolean
  release(): void
}

/** `undefined`: somebody removed it before it was locked. */
async function makeLocked(paths: PartialPaths, content: Buffer): Promise<OwnHold | undefined> {
  // Without a turn of the event loop between: a kill there would leave an empty file.
  const descriptor = openSync(paths.record, 'wx')
  let hold: OwnHold | undefined
  try {
    hold = lockOwn(paths)
    for (let at = 0; hold && at < content.length; ) at += writeSync(descriptor, content, at, undefined, at)
    return hold
  } catch (error) {
    await removePartial(paths)
    hold?.release()
    throw error
  } finally {
    closeSync(descriptor)
  }
}

function lockOwn(paths: PartialPaths): OwnHold | undefined {
  const lockPath = lockPathOf(paths)
  const hold = lockPath === paths.lock ? holdNewFile(lockPath) : holdFile(lockPath)
  if (hold === 'unlockable') return unlocked(lockPath)
  if (typeof hold === 'string') return undefined
  return { isLocked: true, isNamed: () => hold.isNamed(lockPath), release: () => hold.release() }
}

/** Without a lock there is the name to be watched. */
function unlocked(path: string): OwnHold {
  const ours = statSync(path, { bigint: true })
  const isNamed = () => {
    const there = statSync(path, { bigint: true, throwIfNoEntry: false })
    return there?.ino === ours.ino && there.dev === ours.dev
  }
  return { isLocked: false, isNamed, release: () => {} }
}

/** A file of its own, where a lock on the record would keep others from reading it. */
function lockPathOf({ record, lock }: PartialPaths): string {
  return isLockMandatory(dirname(record)) ? lock : record
}

/** The record goes last, and its lock after it. */
async function removePartial(paths: PartialPaths): Promise<void> {
  // A group's is a folder.
  await rm(paths.data, { recursive: true, force: true }).catch(() => {})
  await removeQuietly(paths.record)
  if (lockPathOf(paths) === paths.lock) await removeQuietly(paths.lock)
}
