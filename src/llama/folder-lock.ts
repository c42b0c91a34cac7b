// The models folder's own lock for a download, in `<folder>/.locks`: it reaches all who share the folder, and not the
// machine: containers, sandboxes, services with a private /tmp, other users. It is taken after the machine's (mutex-names.ts),
// so that of one machine's processes one at a time waits for it, wherever both can be had.
//
// The lock file bears the model's name in clear, so that a volume that takes two names for one takes these for one as well.
import {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  type Stats,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { isReadOnly } from '../download/disk/files.ts'
import { errnoOf } from '../download/errors.ts'
import { isError } from '../mutex/caught.ts'
import { MutexError } from '../mutex/errors.ts'
import { type FileHold, holdFile, holdNewFile, isOneKernel } from '../mutex/file-hold.ts'
import { NamedMutex } from '../mutex/named-mutex.ts'
import type { HeldLocks } from './held-locks.ts'
import type { PatientLock, PatientMutex } from './wait/progressing-wait.ts'

/**
 * Takes the folder's lock for a download of the file. `undefined`: the folder can have none, or none that could be relied on.
 * A warning says why, once, unless that is usual.
 */
export async function takeFolderLock(destination: string, held: HeldLocks): Promise<PatientLock | undefined> {
  const locks = join(dirname(destination), '.locks')
  using mutex = folderMutex(destination, locks)
  if (mutex === undefined) return undefined
  try {
    return await held.takeOf(mutex)
  } catch (error) {
    if (!isUnusable(error)) throw error
    warnOnce(locks, notUsable(locks, error.message))
    return undefined
  }
}

/** The system has no lock for that file. Not that somebody has it, nor that the wait is over. */
function isUnusable(error: unknown): error is Error {
  if (error instanceof MutexError) return /^ERR_MUTEX_(SYSTEM|LOCK_FILE|ACCESS_DENIED)$/.test(error.code)
  return isError(error) && 'syscall' in error
}

function notUsable(locks: string, why: string): string {
  return `${locks} can't be used: ${why.replace(/\.$/, '')}. Downloads exclude only this machine's processes.`
}

function folderMutex(destination: string, locks: string): PatientMutex | undefined {
  const folder = dirname(destination)
  const parent = lstatSync(folder, { throwIfNoEntry: false })
  if (parent === undefined) return undefined
  const path = join(locks, basename(destination))
  const why = prepare(locks, parent) ?? whyNoFile(path, folder)
  if (why !== undefined) {
    if (why !== 'none') warnOnce(locks, notUsable(locks, why))
    return undefined
  }
  if (!isOneKernel(locks)) {
    warnOnce(
      locks,
      `${locks} is on a file system that other machines may use, and a lock there may reach this machine only. ` +
        'Two machines may download one model twice; what they publish is right all the same.',
    )
  }
  if (process.platform === 'win32') return new HeldFile(path)
  // Not more than the folder's own bits: who may not see the models need not know of their downloads.
  return new NamedMutex(path, {}, { path, ownDirectory: undefined, objectName: '', mode: parent.mode & 0o666 })
}

/** Why the folder of the locks can't be used. `none`: it is not there, and this user can't make it. */
function prepare(locks: string, parent: Stats): string | undefined {
  try {
    mkdirSync(locks)
    adjust(locks, parent)
  } catch (error) {
    const code = errnoOf(error)
    if (code !== 'EEXIST') return isReadOnly(error) ? 'none' : String(code)
  }
  const there = lstatSync(locks, { throwIfNoEntry: false })
  if (!there?.isDirectory()) return 'it is a link, or no folder'
  if (process.platform === 'win32') return undefined
  if (there.dev !== parent.dev) return 'another file system is mounted there'
  const isTrusted = [0, process.geteuid?.(), parent.uid].includes(there.uid)
  // In a sticky folder, as /tmp is one, everybody can make anything, and nobody else can remove it.
  return (parent.mode & 0o1000) !== 0 && !isTrusted ? `it belongs to user ${there.uid}` : undefined
}

/**
 * Why the lock file can neither be opened nor made. `none`: it is not there, and this user may not write the models either.
 * Then nobody downloads this one, or he would have made it.
 */
function whyNoFile(path: string, folder: string): string | undefined {
  const isThere = lstatSync(path, { throwIfNoEntry: false }) !== undefined
  const needed = isThere
    ? ([path, constants.R_OK] as const)
    : ([dirname(path), constants.W_OK | constants.X_OK] as const)
  if (isAllowed(...needed)) return undefined
  if (isThere) return `this user may not read ${path}`
  return isAllowed(folder, constants.W_OK) ? 'this user may not write there' : 'none'
}

function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode)
    return true
  } catch {
    return false
  }
}

/**
 * Whoever may write the folder may lock in it. `mkdir` has let setgid and a default ACL act; where the mode came from the
 * umask alone, there is no ACL, and the parent's bits are the right ones. By way of a descriptor: in a folder that others may
 * write, the name may be a link by now.
 */
function adjust(locks: string, parent: Stats): void {
  if (process.platform === 'win32') return
  const descriptor = openSync(locks, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  try {
    const { uid, mode } = fstatSync(descriptor)
    if (uid !== process.geteuid?.()) return
    // What root makes in a user's folder is the user's, who could not lock there himself, else. A folder that was put in
    // its place has something in it.
    if (uid === 0 && readdirSync(`/dev/fd/${descriptor}`).length === 0) fchownSync(descriptor, parent.uid, parent.gid)
    if ((mode & 0o777) === (0o777 & ~process.umask())) fchmodSync(descriptor, parent.mode & 0o7777)
  } catch (error) {
    // The permission model of Node has neither of the two. It is the folder of this user alone then.
    if (errnoOf(error) !== 'ERR_ACCESS_DENIED') throw error
  } finally {
    closeSync(descriptor)
  }
}

const warned = new Set<string>()

function warnOnce(locks: string, message: string): void {
  if (warned.has(locks)) return
  warned.add(locks)
  process.emitWarning(message, { type: 'ModelWarning', code: 'OS_MUTEX_FOLDER_LOCK' })
}

const pollMs = 200

/**
 * Windows: the kernel's mutex has excluded this machine already. What is left is rare, containers and other machines, so
 * this one looks from time to time.
 */
class HeldFile implements PatientMutex {
  readonly name: string

  constructor(path: string) {
    this.name = path
  }

  tryAcquire(): HeldLock | null {
    const hold = holdNewFile(this.name)
    if (hold === 'unlockable') throw new MutexError('ERR_MUTEX_SYSTEM', `its file system knows no locks`)
    return typeof hold === 'string' ? null : new HeldLock(hold)
  }

  async acquire({ signal, onWait }: Parameters<PatientMutex['acquire']>[0]): Promise<HeldLock> {
    for (let isFirst = true; ; isFirst = false) {
      signal?.throwIfAborted()
      const lock = this.tryAcquire()
      if (lock !== null) return lock
      if (isFirst) onWait?.(undefined)
      await sleep(pollMs, undefined, signal && { signal }).catch(() => signal?.throwIfAborted())
    }
  }

  query(): { held: boolean } {
    const hold = holdFile(this.name)
    if (typeof hold !== 'string') hold.release()
    return { held: hold === 'taken' }
  }

  [Symbol.dispose](): void {}
}

class HeldLock {
  readonly abandoned = false
  readonly waitedMs = 0
  readonly #hold: FileHold

  constructor(hold: FileHold) {
    this.#hold = hold
  }

  report(): void {}

  release(): void {
    this.#hold.release()
  }
}
