// Everything native that TypeScript knows is declared here.
import { loadAddon } from './addon-loader.ts'

/** 0: none. Else names one acquisition: odd when the mutex was abandoned, with bit 1 set when it keeps no owner record. */
export type Token = number

export function isAbandoned(token: Token): boolean {
  return token % 2 === 1
}

export function isUnrecorded(token: Token): boolean {
  return token % 4 >= 2
}

/** What native code throws: the failed system call, to be told in words by native-failure.ts. */
export interface NativeFailure extends Error {
  readonly kind: 'system' | 'notRegularFile' | 'hardLinked' | 'foreignDirectory'
  readonly errno: number
  readonly syscall: string
  readonly path: string
}

export interface NativeMutex {
  tryAcquire(purposeJson?: string): Token
  /** The id of an acquire in line; `dispatch` tells when there may be something to take. */
  enqueue(purposeJson?: string): number
  /** The token of an acquire in line, should it get the mutex with nothing to tell of it. */
  tokenOf(id: number): Token
  /** Then it calls `resolve(lock)`; `dispatch` comes soon after, and `take` has the same token. Else `dispatch` comes first. */
  handTo(id: number, resolve: (lock: object) => void, lock: object): void
  enqueueSync(purposeJson?: string): number
  /** Blocks the thread until there may be something to take. */
  waitSync(id: number, ms: number): void
  /** The outcome of an acquire in line. 0: it still waits. */
  take(id: number): Token
  /** How long what was taken last had been in line. */
  waitedMs(): number
  /** Takes an acquire out of the line; `takeBack` also out of a grant not taken yet. False: it has an outcome. */
  cancel(id: number, takeBack: boolean): boolean
  release(token: Token): void
  abandon(token: Token): void
  /** Of a lock that was abandoned before: leaves it so, with the record of whoever abandoned it. */
  giveBack(token: Token): void
  report(token: Token, progressJson: string): void
  previousOwner(): string | undefined
  /** Why the mutex keeps no owner record. */
  recordFailure(): NativeFailure
  isTakenInThisThread(): boolean
  /** Nothing but release, abandon and report may be called after it. */
  close(): void
  query(): { held: boolean; recordIsOwners: boolean; record: string; kernelPid: number }
}

export interface Addon {
  readonly NativeMutex: new (
    path: string,
    ownDirectory: string | undefined,
    objectName: string,
    ownerJson: string,
    /** Called when there may be something to take for a request. */
    dispatch: (id: number) => void,
  ) => NativeMutex
  processIdentity(): { pid: number; processStart: number; host: string; bootId: string; pidSpace: number }
  /** 0: there is no such process. undefined: the system does not tell. */
  processStart(pid: number): number | undefined
  /**
   * Takes room on the disk for a file's first `bytes` bytes, whatever its size is now. The path is absolute. What lies behind the file's
   * end is given back, on Windows and macOS, when nobody has the file open any more; on Linux when it is truncated.
   */
  preallocate(path: string, bytes: number): Promise<'done' | 'noRoom' | 'tooLarge' | 'unsupported'>
  unsafeFileSystem(directory: string): string | undefined
  /** Which processes share `Local\` names: those of the effective user (POSIX) or of the session (Windows) with this number. */
  localScopeId(): number
}

export const addon = loadAddon() as Addon
