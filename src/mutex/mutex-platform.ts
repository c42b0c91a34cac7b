// What the parts that know one operating system (posix-platform, win32-platform) offer to the rest.
import type { NativeFailure } from './addon.ts'
import type { MutexError } from './errors.ts'
import type { ParsedName } from './mutex-name.ts'

/** The directory of the lock files (POSIX) or owner records (Windows). */
export interface LockHome {
  readonly directory: string
  /** Whether it is the one that everybody uses who chooses none. */
  readonly isDefault: boolean
}

export interface MutexLocation {
  /** Of the lock file (POSIX) or the owner record (Windows). */
  readonly path: string
  /** The directory that `path` lies in, where that is ours to make. */
  readonly ownDirectory: string | undefined
  /** What the kernel calls the mutex (Windows), else ''. */
  readonly objectName: string
}

export interface MutexPlatform {
  readonly defaultHome: string
  locate(name: ParsedName, home: LockHome): MutexLocation
  /** The system's name of an error code. */
  errorName(errno: number): string
  /** Puts a failed system call into words: what it means for the user, and what to do. `what` begins the message. */
  explain(what: string, failure: NativeFailure): MutexError | TypeError
  /** Why mutexes in `directory` may exclude fewer than their users expect, for a warning. */
  warningOf(directory: string): { readonly code: string; readonly message: string } | undefined
}
