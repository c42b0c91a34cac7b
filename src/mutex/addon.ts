// Declares everything that TypeScript uses of the native addon.
import { loadAddon } from './addon-loader.ts'

/** Identifies one acquisition in this process. 0: none. */
export type Hold = number

/** How a mutex was acquired. */
export interface Grant {
  readonly hold: Hold
  /** From the acquire to the grant. 0 when it did not have to wait. */
  readonly waitedMs: number
  readonly abandoned: boolean
  /** JSON: the record of the owner that abandoned it, where it can be read. */
  readonly previousOwner?: string
  /** Why this owner's record could not be written. Absent if it was. */
  readonly unrecorded?: NativeFailure
}

/** What native code throws: the failed system call. native-failure.ts makes an error with a message of it. */
export interface NativeFailure extends Error {
  readonly kind: 'system' | 'notRegularFile' | 'hardLinked' | 'foreignDirectory'
  readonly errno: number
  readonly syscall: string
  readonly path: string
}

export interface NativeMutex {
  /** 0: the mutex is taken. A plain number: a grant with nothing to report but its hold. */
  tryAcquire(purposeJson?: string): Hold | Grant
  /** Queues an acquire. A grant calls `resolve(lock)`, and soon after it `dispatch`. */
  enqueue(purposeJson: string | undefined, lock: object, resolve: (lock: object) => void): Hold
  /** How a queued acquire was granted. Answers once. Undefined: it was not granted, or this was asked before. */
  grantOf(hold: Hold): Grant | undefined
  /** Queues an acquire for {@link waitSync}. */
  enqueueSync(purposeJson?: string): Hold
  /** Blocks the thread until the acquire is granted, for at most `ms`. May return earlier without a grant. */
  waitSync(hold: Hold, ms: number): Grant | undefined
  /** Cancels a queued acquire, and with `takeBack` also a grant that was not delivered. False: it has an outcome. */
  cancel(hold: Hold, takeBack: boolean): boolean
  release(hold: Hold): void
  /**
   * Releases it as if it had never been acquired: an abandoned mutex stays abandoned, with the record of the owner that
   * abandoned it.
   */
  giveBack(hold: Hold): void
  report(hold: Hold, progressJson: string): void
  /** Notes in the record that the lock object was garbage collected, so that nobody can release it any more. */
  noteCollected(hold: Hold): void
  /** Whether somebody took the lock away from its owner. True only where that is certain. */
  isLost(hold: Hold): boolean
  /**
   * For a held lock: keeps the system's cleaners of temporary files away, and repairs a damaged record. For a queued
   * acquire: starts its wait again if the lock file that it waits for was removed.
   */
  keepYoung(hold: Hold): void
  isTakenInThisThread(): boolean
  /** After it, only methods that take a hold may be called. */
  close(): void
  /**
   * `mayProbe`: if the kernel does not report whether the mutex is held, take a shared lock for a moment to find out.
   * If false, the mutex counts as held then.
   */
  query(mayProbe: boolean): { held: boolean; recordIsOwners: boolean; record: string; kernelPid: number }
}

/** The kernel's lock on a file that is there. Freed by `release`, with the object, and with this thread or process. */
export interface FileHold {
  /** Whether the path still leads to the locked file. */
  isNamed(path: string): boolean
  /** Idempotent. */
  release(): void
}

export interface Addon {
  /**
   * Locks a file, without waiting. The path is absolute. Throws a `NativeFailure`, or one of the kind `taken` if somebody
   * else has the lock, `gone` if there is no such file, or its name leads to another one by now.
   */
  readonly FileHold: new (
    path: string,
  ) => FileHold
  /** Whether all users of the directory's files share this machine's kernel. False also where that is not known. */
  isLocalFileSystem(directory: string): boolean
  readonly NativeMutex: new (
    path: string,
    ownDirectory: string | undefined,
    objectName: string,
    ownerJson: string,
    /** Called when a queued acquire has failed or was granted. After a grant, the code that awaits it runs first. */
    dispatch: (hold: Hold, failure: NativeFailure | undefined) => void,
    /** See `MutexLocation.mode`. */
    mode: number | undefined,
  ) => NativeMutex
  processIdentity(): { pid: number; processStart: number; host: string; bootId: string; pidSpace: number }
  /** 0: there is no such process. undefined: the system does not report it. */
  processStart(pid: number): number | undefined
  /**
   * How the process with this pid identifies itself. A process in a container has another pid inside. What the system
   * does not report is absent. undefined: there is no such process.
   */
  processBehind(pid: number): { pid?: number; processStart?: number; pidSpace?: number } | undefined
  /**
   * Reserves disk space for the first `bytes` bytes of a file, without changing its size. The path is absolute. Space
   * beyond the file's end is freed, on Windows and macOS, when nobody has the file open any more; on Linux when it is
   * truncated.
   */
  preallocate(path: string, bytes: number): Promise<'done' | 'noRoom' | 'tooLarge' | 'unsupported'>
  /** Makes unused mutexes close their descriptors. Returns how many keep them for now, since they were used lately. */
  restIdle(): number
  /** The name of the directory's file system if flock is not reliable on it. */
  unsafeFileSystem(directory: string): string | undefined
  /** Which processes share `Local\` names: those of this effective user (POSIX) or session (Windows). */
  localScopeId(): number
}

export const addon = loadAddon() as Addon
