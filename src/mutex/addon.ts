// Everything native that TypeScript knows is declared here.
import { loadAddon } from './addon-loader.ts'

/** Names one acquisition in this process. 0: none. */
export type Hold = number

/** How a mutex was acquired. */
export interface Grant {
  readonly hold: Hold
  /** From the acquire to the grant. 0 when it did not have to wait. */
  readonly waitedMs: number
  readonly abandoned: boolean
  /** JSON: the record of the owner that abandoned it, where it can be read. */
  readonly previousOwner?: string
  /** Why the mutex can't keep this owner's record. */
  readonly unrecorded?: NativeFailure
}

/** What native code throws: the failed system call, to be told in words by native-failure.ts. */
export interface NativeFailure extends Error {
  readonly kind: 'system' | 'notRegularFile' | 'hardLinked' | 'foreignDirectory'
  readonly errno: number
  readonly syscall: string
  readonly path: string
}

export interface NativeMutex {
  /** 0: it is taken. A plain number: there is nothing more to say of the grant. */
  tryAcquire(purposeJson?: string): Hold | Grant
  /** Gets in line. A grant calls `resolve(lock)`; `dispatch` comes soon after it. */
  enqueue(purposeJson: string | undefined, lock: object, resolve: (lock: object) => void): Hold
  /** How an acquire in line was granted: once. Undefined: it was not, or that was asked before. */
  grantOf(hold: Hold): Grant | undefined
  /** Gets in line, for {@link waitSync}. */
  enqueueSync(purposeJson?: string): Hold
  /** Blocks the thread until there is a grant, for so long at most, and now and then for less. */
  waitSync(hold: Hold, ms: number): Grant | undefined
  /** Takes an acquire out of the line; `takeBack`: also out of a grant not yet delivered. False: it has an outcome. */
  cancel(hold: Hold, takeBack: boolean): boolean
  release(hold: Hold): void
  /** As if it had never been acquired: an abandoned mutex stays so, with the record of the owner that abandoned it. */
  giveBack(hold: Hold): void
  report(hold: Hold, progressJson: string): void
  /** Says in the record that nobody can release it any more. */
  noteCollected(hold: Hold): void
  /** Whether somebody took the lock away from its owner. True only where that is certain. */
  isLost(hold: Hold): boolean
  /**
   * Of a lock: keeps the system's cleaners of temporary files away, and mends a damaged record. Of an acquire in line:
   * begins its wait again where that is for a file that was removed.
   */
  keepYoung(hold: Hold): void
  isTakenInThisThread(): boolean
  /** Only what takes a hold may be called after it. */
  close(): void
  /** `mayProbe`: where the kernel does not tell, take a shared lock for a moment. Else it counts as held. */
  query(mayProbe: boolean): { held: boolean; recordIsOwners: boolean; record: string; kernelPid: number }
}

export interface Addon {
  readonly NativeMutex: new (
    path: string,
    ownDirectory: string | undefined,
    objectName: string,
    ownerJson: string,
    /** Called when an acquire in line was granted, soon after its owner has had its first step, or has failed. */
    dispatch: (hold: Hold, failure: NativeFailure | undefined) => void,
  ) => NativeMutex
  processIdentity(): { pid: number; processStart: number; host: string; bootId: string; pidSpace: number }
  /** 0: there is no such process. undefined: the system does not tell. */
  processStart(pid: number): number | undefined
  /**
   * How the process that the kernel calls `pid` here identifies itself: a container's has another pid in there. Without
   * what the system does not tell. undefined: there is no such process.
   */
  processBehind(pid: number): { pid?: number; processStart?: number; pidSpace?: number } | undefined
  /**
   * Takes room on the disk for a file's first `bytes` bytes, whatever its size is now. The path is absolute. What lies
   * behind the file's end is given back, on Windows and macOS, when nobody has the file open any more; on Linux when it
   * is truncated.
   */
  preallocate(path: string, bytes: number): Promise<'done' | 'noRoom' | 'tooLarge' | 'unsupported'>
  /** Lets unused mutexes give back their descriptors. How many keep them for now, since they were used lately. */
  restIdle(): number
  /** The name of its file system where flock is not reliable on it. */
  unsafeFileSystem(directory: string): string | undefined
  /** Which processes share `Local\` names: those of this effective user (POSIX) or session (Windows). */
  localScopeId(): number
}

export const addon = loadAddon() as Addon
