// The kernel's lock on a file of ours, and how far it reaches.
import { closeSync, openSync, realpathSync } from 'node:fs'
import { addon, type FileHold, type NativeFailure } from './addon.ts'
import { mountAbove, readMounts } from './mounts.ts'
import { platform } from './platform.ts'

export type { FileHold }

/**
 * - `taken`: somebody has it.
 * - `gone`: there is no such file, or its name leads to another one by now.
 * - `unlockable`: the file system knows no locks, or not for this user.
 */
export type NoHold = 'taken' | 'gone' | 'unlockable'

/** Locks the file at an absolute path, without waiting. Throws what the system says, with its `code`. */
export function holdFile(path: string): FileHold | NoHold {
  try {
    return new addon.FileHold(path)
  } catch (error) {
    const failure = error as Omit<NativeFailure, 'kind'> & { readonly kind: string }
    if (failure.kind === 'taken' || failure.kind === 'gone') return failure.kind
    const code = platform.errorName(failure.errno)
    if (isLockCall(failure.syscall) && unlockable.has(code)) return 'unlockable'
    throw Object.assign(failure, { code })
  }
}

function isLockCall(syscall: string): boolean {
  return syscall === 'flock' || syscall === 'LockFileEx'
}

// EBADF: NFS, of a file that may not be written. Of Win32: ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED.
const unlockable = new Set([
  'ENOLCK',
  'ENOSYS',
  'ENOTSUP',
  'EOPNOTSUPP',
  'EINVAL',
  'EBADF',
  'Win32 error 1',
  'Win32 error 50',
])

/** The same, of a file that is made where it is missing. */
export function holdNewFile(path: string): FileHold | NoHold {
  closeSync(openSync(path, 'a'))
  return holdFile(path)
}

/**
 * Whether this machine's kernel sees every lock on the directory's files. On a network file system it may not, though a
 * lock seems to work: two machines, or two mounts of one folder, each see their own.
 */
export function isOneKernel(directory: string): boolean {
  // NTFS and others by way of FUSE, on a disk of this machine's: statfs calls them all FUSE.
  return addon.isLocalFileSystem(directory) || mountAbove(realPath(directory), readMounts())?.type === 'fuseblk'
}

/** Whether a lock on a file there keeps others, and this process's other descriptors, from reading it. */
export function isLockMandatory(directory: string): boolean {
  return process.platform !== 'win32' && addon.unsafeFileSystem(directory) === 'SMB'
}

function realPath(directory: string): string {
  try {
    return realpathSync(directory)
  } catch {
    return directory
  }
}
