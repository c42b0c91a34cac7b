// Says in words what a failed system call means for the user, and what to do.
import os from 'node:os'
import { getSystemErrorName } from 'node:util'
import type { NativeFailure } from './addon.ts'
import { MutexAccessError, MutexError } from './errors.ts'

const ELSEWHERE = 'or choose another directory by OS_MUTEX_DIR or the option "directory"'

function errnoName(errno: number): string {
  return errno === 0 ? 'OK' : getSystemErrorName(-errno)
}

/** The error to throw for a native failure of the mutex `name`. */
export function toMutexError(name: string, failure: NativeFailure): MutexError {
  const cause = { cause: failure }
  const what = `Mutex ${JSON.stringify(name)}: `
  switch (failure.kind) {
    case 'notRegularFile':
      return new MutexError(
        'ERR_MUTEX_LOCK_FILE',
        `${what}${failure.path} is in the way of the lock file: it is a link, directory, FIFO or device. Remove it, ${ELSEWHERE}.`,
        cause,
      )
    case 'hardLinked':
      return new MutexError(
        'ERR_MUTEX_LOCK_FILE',
        `${what}the lock file ${failure.path} has a second name (hard link), so writing to it could damage another file. Remove it, ${ELSEWHERE}.`,
        cause,
      )
    case 'foreignDirectory':
      return new MutexAccessError(
        `${what}the directory ${failure.path} must be a real directory that belongs to user ${process.geteuid?.()} and that nobody else may write to. Remove or repair it, ${ELSEWHERE}.`,
        cause,
      )
    case 'system':
      return fromErrno(what, failure)
  }
}

function fromErrno(what: string, failure: NativeFailure): MutexError {
  const cause = { cause: failure }
  const told = `${failure.syscall} on ${failure.path} failed with ${errnoName(failure.errno)}`
  switch (failure.errno) {
    case os.constants.errno.EACCES:
    case os.constants.errno.EPERM:
    case os.constants.errno.EROFS:
      return new MutexAccessError(
        `${what}${told}. The lock file or its directory belongs to another user or is read-only: make it writable for this user (a Global\\ lock file has mode 666), ${ELSEWHERE}.`,
        cause,
      )
    case os.constants.errno.ENOENT:
    case os.constants.errno.ENOTDIR:
      return new MutexError(
        'ERR_MUTEX_LOCK_FILE',
        `${what}${told}: its directory does not exist. Create it, ${ELSEWHERE}.`,
        cause,
      )
    default:
      return new MutexError('ERR_MUTEX_SYSTEM', `${what}${told}.`, cause)
  }
}
