// One class per way a mutex call can fail; `code` is the stable part, the message is for people.
import type { OwnerInfo } from './owner-info.ts'

export type MutexErrorCode =
  | 'ERR_MUTEX_INVALID_NAME'
  | 'ERR_MUTEX_INVALID_ARGUMENT'
  | 'ERR_MUTEX_TIMEOUT'
  | 'ERR_MUTEX_DEADLOCK'
  | 'ERR_MUTEX_LOST'
  | 'ERR_MUTEX_CLOSED'
  | 'ERR_MUTEX_ACCESS_DENIED'
  | 'ERR_MUTEX_LOCK_FILE'
  | 'ERR_MUTEX_NAME_TAKEN'
  | 'ERR_MUTEX_SYSTEM'
  | 'ERR_MUTEX_ADDON_NOT_FOUND'

/** A mutex could not be opened, taken or looked at. `code` says why. */
export class MutexError extends Error {
  override readonly name: string = 'MutexError'
  readonly code: MutexErrorCode

  constructor(code: MutexErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** `ERR_MUTEX_TIMEOUT`: the mutex stayed with other owners for the whole of `timeoutMs`. */
export class MutexTimeoutError extends MutexError {
  override readonly name = 'MutexTimeoutError'
  /** The mutex that was waited for. */
  readonly mutexName: string
  /** The limit that ran out, in milliseconds. */
  readonly timeoutMs: number
  /** Whether it was still held when its owner was looked up, just after the time ran out. */
  readonly held: boolean
  /** Who held it then, as far as that is known. */
  readonly owner: OwnerInfo | undefined

  constructor(
    message: string,
    details: { mutexName: string; timeoutMs: number; held: boolean; owner: OwnerInfo | undefined },
  ) {
    super('ERR_MUTEX_TIMEOUT', message)
    this.mutexName = details.mutexName
    this.timeoutMs = details.timeoutMs
    this.held = details.held
    this.owner = details.owner
  }
}

/** `ERR_MUTEX_ACCESS_DENIED`: the operating system denies this user access to the mutex. */
export class MutexAccessError extends MutexError {
  override readonly name = 'MutexAccessError'

  constructor(message: string, options?: ErrorOptions) {
    super('ERR_MUTEX_ACCESS_DENIED', message, options)
  }
}

/**
 * `ERR_MUTEX_LOST`: the lock ended under its living owner, because somebody removed or replaced the lock file. The
 * reason of `lock.lost`.
 */
export class MutexLostError extends MutexError {
  override readonly name = 'MutexLostError'
  /** The mutex that was held. */
  readonly mutexName: string
  /** The lock file that is gone. */
  readonly path: string

  constructor(message: string, details: { mutexName: string; path: string }) {
    super('ERR_MUTEX_LOST', message)
    this.mutexName = details.mutexName
    this.path = details.path
  }
}

/** `ERR_MUTEX_DEADLOCK`: the wait could only end after the caller's own work, which is itself waiting. */
export class MutexDeadlockError extends MutexError {
  override readonly name = 'MutexDeadlockError'

  constructor(message: string) {
    super('ERR_MUTEX_DEADLOCK', message)
  }
}

/** A `TypeError` with a code: `ERR_MUTEX_INVALID_NAME` or `ERR_MUTEX_INVALID_ARGUMENT`. */
export class MutexArgumentError extends TypeError {
  override readonly name = 'TypeError'
  readonly code: 'ERR_MUTEX_INVALID_NAME' | 'ERR_MUTEX_INVALID_ARGUMENT'

  constructor(code: 'ERR_MUTEX_INVALID_NAME' | 'ERR_MUTEX_INVALID_ARGUMENT', message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
