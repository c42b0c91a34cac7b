// Where a mutex lives: what the parts that know one operating system (posix-*.ts, win32-*.ts) tell the rest.
import type { NativeFailure } from './addon.ts'
import type { MutexError } from './errors.ts'
import type { ParsedName } from './mutex-name.ts'
import { posixPlatform } from './posix-platform.ts'
import { win32Platform } from './win32-platform.ts'

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
  /** Says in words what a failed system call means for the user, and what to do. `what` begins the message. */
  explain(what: string, failure: NativeFailure): MutexError | TypeError
}

export const platform: MutexPlatform = process.platform === 'win32' ? win32Platform : posixPlatform
