// Windows: a mutex is a kernel object, and a file beside it holds the owner's record. Failures are Win32 error codes.
import { createHash } from 'node:crypto'
import path from 'node:path'
import { addon, type NativeFailure } from './addon.ts'
import { MutexAccessError, MutexArgumentError, MutexError } from './errors.ts'
import { encodeMutexName, FILE_PREFIX, type ParsedName } from './mutex-name.ts'
import type { LockHome, MutexLocation, MutexPlatform } from './mutex-platform.ts'

/** Names that Windows itself uses in the directories of named objects, and our own hashed names. */
const RESERVED = /^(global|local|session|restricted|appcontainernamedobjects|os-mutex-[0-9a-f]{64})$/i

/**
 * Services, scheduled tasks and CI agents run in session 0. Its session names are the global names, so `Local\x` is the
 * same mutex as `Global\x`: "Service applications use the global namespace by default".
 * https://learn.microsoft.com/windows/win32/termserv/kernel-object-namespaces
 */
function resolved(name: ParsedName, sessionId: number): ParsedName {
  return sessionId === 0 ? { ...name, scope: 'global' } : name
}

/**
 * The mutex's name in the kernel. In the default home it is exactly the given name, so that any program that calls
 * CreateMutex with it takes part. Every other home has its own mutexes.
 */
function objectName({ scope, base }: ParsedName, home: LockHome, sessionId: number): string {
  // A name without a prefix belongs to this session. A prefix could make it longer than MAX_PATH, so it is added only
  // where it is needed.
  const prefix = scope === 'global' && sessionId !== 0 ? 'Global\\' : ''
  if (home.isDefault && !RESERVED.test(base)) return prefix + base
  const inHome = `${home.isDefault ? '' : home.directory.toLowerCase()}\0${base}`
  return `${prefix}os-mutex-${createHash('sha256').update(inHome, 'utf16le').digest('hex')}`
}

/** Where a mutex lives for the processes of a session. One mutex of the kernel has one location. */
export function locateInSession(given: ParsedName, home: LockHome, sessionId: number): MutexLocation {
  const name = resolved(given, sessionId)
  // No encoded name has a "~".
  const scope = name.scope === 'global' ? '' : `s${sessionId}~`
  return {
    path: path.win32.join(home.directory, FILE_PREFIX + scope + encodeMutexName(name.base)),
    ownDirectory: home.isDefault ? home.directory : undefined,
    objectName: objectName(name, home, sessionId),
  }
}

// Winerror.h
const ERROR_FILE_NOT_FOUND = 2
const ERROR_PATH_NOT_FOUND = 3
const ERROR_ACCESS_DENIED = 5
const ERROR_INVALID_HANDLE = 6
const ERROR_INVALID_NAME = 123
const ERROR_BAD_PATHNAME = 161
const ERROR_FILENAME_EXCED_RANGE = 206

function errorName(errno: number): string {
  return `Win32 error ${errno}`
}

function explain(what: string, failure: NativeFailure): MutexError | TypeError {
  const cause = { cause: failure }
  const told = `${failure.syscall} failed with ${errorName(failure.errno)}`
  if (/^(Nt)?Create(File|Directory)$/.test(failure.syscall)) {
    return new MutexError(
      'ERR_MUTEX_LOCK_FILE',
      `${what}${told} on ${failure.path}: its directory does not exist. Create it, or choose another directory with OS_MUTEX_DIR or the option "directory".`,
      cause,
    )
  }
  switch (failure.errno) {
    case ERROR_ACCESS_DENIED:
      return new MutexAccessError(
        `${what}${told} (access denied): another program made a mutex of this name and does not let this user have it. End that program, ` +
          'have it grant SYNCHRONIZE and MUTEX_MODIFY_STATE to this user, or use another name.',
        cause,
      )
    case ERROR_INVALID_HANDLE:
      return new MutexError(
        'ERR_MUTEX_NAME_TAKEN',
        `${what}${told}: an event, semaphore, section or other object that is no mutex has this name. Use another name.`,
        cause,
      )
    case ERROR_FILE_NOT_FOUND:
    case ERROR_PATH_NOT_FOUND:
    case ERROR_INVALID_NAME:
    case ERROR_BAD_PATHNAME:
    case ERROR_FILENAME_EXCED_RANGE:
      return new MutexArgumentError('ERR_MUTEX_INVALID_NAME', `${what}${told}: Windows refuses this name.`, cause)
    default:
      return new MutexError('ERR_MUTEX_SYSTEM', `${what}${told}.`, cause)
  }
}

export const win32Platform: MutexPlatform = {
  defaultHome: path.win32.join(process.env.ProgramData || 'C:\\ProgramData', 'os-mutex'),
  locate: (name, home) => locateInSession(name, home, addon.localScopeId()),
  errorName,
  explain,
  // The lock is not a file. Records on a network drive are refused one by one (native/win32/record_file.cc).
  warningOf: () => undefined,
}
