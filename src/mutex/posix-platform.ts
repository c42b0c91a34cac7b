// Linux and macOS: a mutex is a file, and its failures are errno values.
import os from 'node:os'
import path from 'node:path'
import { addon, type NativeFailure } from './addon.ts'
import { errnoName } from './errno.ts'
import { MutexAccessError, MutexError } from './errors.ts'
import { encodeMutexName, FILE_PREFIX, type ParsedName } from './mutex-name.ts'
import type { LockHome, MutexLocation, MutexPlatform } from './mutex-platform.ts'
import { privateMountOf } from './private-mount.ts'

const ELSEWHERE = 'or choose another directory with OS_MUTEX_DIR or the option "directory"'

function locate({ scope, base }: ParsedName, { directory }: LockHome): MutexLocation {
  const fileName = FILE_PREFIX + encodeMutexName(base)
  if (scope === 'global') return { path: path.join(directory, fileName), ownDirectory: undefined, objectName: '' }
  const ownDirectory = path.join(directory, `${FILE_PREFIX}u${addon.localScopeId()}`)
  return { path: path.join(ownDirectory, fileName), ownDirectory, objectName: '' }
}

function explain(what: string, failure: NativeFailure): MutexError {
  const cause = { cause: failure }
  switch (failure.kind) {
    case 'notRegularFile':
      return new MutexError(
        'ERR_MUTEX_LOCK_FILE',
        `${what}${failure.path} is in the way of the lock file: it is a link, directory, FIFO or device. Move it away, ${ELSEWHERE}.`,
        cause,
      )
    case 'hardLinked':
      return new MutexError(
        'ERR_MUTEX_LOCK_FILE',
        `${what}${failure.path} is in the way of the lock file: it has a second name (hard link), and its content is not that of a lock file, so writing to it could damage somebody's data. Find its other name (find -samefile) and its owner. Until that is known, use another mutex name, ${ELSEWHERE}.`,
        cause,
      )
    case 'foreignDirectory':
      return new MutexAccessError(
        `${what}the directory ${failure.path} must be a real directory that belongs to user ${process.geteuid?.()} and that nobody else may write to. Have its owner or an administrator repair that (chown, chmod 700), ${ELSEWHERE}.`,
        cause,
      )
    case 'system':
      return fromErrno(what, failure)
  }
}

function fromErrno(what: string, failure: NativeFailure): MutexError {
  const cause = { cause: failure }
  const told = `${failure.syscall} on ${failure.path} failed with ${errnoName(failure.errno)}`
  if (failure.syscall.startsWith('dlopen')) {
    const advice =
      'A wait on glibc needs this library, and a free descriptor to load it. Install it (Debian: libgcc-s1)'
    return new MutexError('ERR_MUTEX_SYSTEM', `${what}${told}. ${advice}, or raise the limit of open files.`, cause)
  }
  switch (failure.errno) {
    case os.constants.errno.EACCES:
    case os.constants.errno.EPERM:
    case os.constants.errno.EROFS:
      return new MutexAccessError(
        `${what}${told}. The lock file or its directory belongs to another user or is read-only: make it writable for this user (a Global\\ lock file has mode 666), ${ELSEWHERE}.`,
        cause,
      )
    case os.constants.errno.ENOENT:
      return new MutexError(
        'ERR_MUTEX_LOCK_FILE',
        `${what}${told}: its directory does not exist. Create it, ${ELSEWHERE}.`,
        cause,
      )
    case os.constants.errno.ENOTDIR:
      return new MutexError(
        'ERR_MUTEX_LOCK_FILE',
        `${what}${told}: a file or link stands where its directory should be. Remove that file or link, ${ELSEWHERE}.`,
        cause,
      )
    default:
      return new MutexError('ERR_MUTEX_SYSTEM', `${what}${told}. ${remedyFor(failure.errno)}`.trimEnd(), cause)
  }
}

function remedyFor(errno: number): string {
  switch (errno) {
    case os.constants.errno.EMFILE:
    case os.constants.errno.ENFILE:
      return 'Close files that are not needed, or raise the limit of open files (ulimit -n).'
    case os.constants.errno.ENOSPC:
    case os.constants.errno.EDQUOT:
      return `Make room on that disk (bytes or inodes), ${ELSEWHERE}.`
    case os.constants.errno.EAGAIN:
      return 'The system has no more threads or locks available: end some processes, or raise the limit of processes (ulimit -u).'
    default:
      return ''
  }
}

function warningOf(directory: string): { code: string; message: string } | undefined {
  const fileSystem = addon.unsafeFileSystem(directory)
  if (fileSystem !== undefined) {
    return {
      code: 'OS_MUTEX_UNSAFE_FILE_SYSTEM',
      message:
        `Mutexes in ${directory} are on ${fileSystem}, where flock may not exclude processes on other machines, or may not exclude any. ` +
        'Choose a local directory with OS_MUTEX_DIR or the option "directory".',
    }
  }
  const owner = privateMountOf(directory)
  if (owner === undefined) return undefined
  return {
    code: 'OS_MUTEX_PRIVATE_DIRECTORY',
    message:
      `Mutexes in ${directory} exclude no process outside: ${directory} is private to ${owner}, and this process runs inside it. To share ` +
      'mutexes with other processes, choose a directory that all of them see, such as one in /run or /var/lib, with OS_MUTEX_DIR or the option "directory".',
  }
}

export const posixPlatform: MutexPlatform = { defaultHome: '/tmp', locate, errorName: errnoName, explain, warningOf }
