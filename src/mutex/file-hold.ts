// The kernel's lock on a file of ours, and how far it reaches.
import { closeSync, openSync, realpathSync } from 'node:fs'
import { addon, type FileHold, type NativeFailure } from './addon.ts'
import { mountAbove, readMounts } from './mounts.ts'

export type { FileHold }

/**
 * Locks the file at an absolute path, without waiting. `taken`: somebody has it. `gone`: there is no such file, or its name
 * leads to another one by now. Throws a `NativeFailure`.
 */
export function holdFile(path: string): FileHold | 'taken' | 'gone' {
  try {
    return new addon.FileHold(path)
  } catch (error) {
    const kind: string = (error as NativeFailure).kind
    if (kind === 'taken' || kind === 'gone') return kind
    throw error
  }
}

/** The same, of a file that is made where it is missing. */
export function holdNewFile(path: string): FileHold | 'taken' | 'gone' {
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
