// What the parts that know one operating system (posix-platform, win32-platform) offer to the rest.
import type { NativeFailure } from './addon.ts'
import type { MutexError } from './errors.ts'
import type { ParsedName } from './mutex-name.ts'

/** The directory of the lock files (POSIX) or owner records (Windows). */
export interface LockHome {
  readonly directory: string
  /** Whether it is the default one, chosen explicitly or not. */
  readonly isDefault: boolean
}

export interface MutexLocation {
  /** Of the lock file (POSIX) or the owner record (Windows). */
  readonly path: string
  /** The directory of `path`, if this package creates it. */
  readonly ownDirectory: string | undefined
  /** The mutex's name in the kernel (Windows), else ''. */
  readonly objectName: string
  /**
   * Of a lock file in a folder that has its own permissions (POSIX): the file's mode. Who may not write such a file locks
   * it all the same, and keeps no record.
   */
  readonly mode?: number
}

export interface MutexPlatform {
  readonly defaultHome: string
  locate(name: ParsedName, home: LockHome): MutexLocation
  /** The system's name of an error code. */
  errorName(errno: number): string
  /**
   * Makes an error of a failed system call. The message says what the failure means for the user, and what to do.
   * `what` begins the message.
   */
  explain(what: string, failure: NativeFailure): MutexError | TypeError
  /** The warning to give if mutexes in `directory` may exclude fewer processes than their users expect. */
  warningOf(directory: string): { readonly code: string; readonly message: string } | undefined
}
