import path from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { checkNotEnclosed, runEnclosed, selfBlockingError } from './deadlock.ts'
import { lockHome } from './lock-home.ts'
import { MutexCore, type MutexState } from './mutex-core.ts'
import type { MutexLock } from './mutex-lock.ts'
import { type MutexScope, parseMutexName } from './mutex-name.ts'
import type { MutexLocation } from './mutex-platform.ts'
import {
  abortReason,
  checkBoolean,
  checkFunction,
  checkKnown,
  checkOptions,
  checkSignal,
  checkString,
  checkTimeout,
  namesOf,
  type WaitOptions,
} from './options.ts'
import { type OwnerInfo, purposeJson } from './owner-info.ts'
import { dispatch, PendingAcquire } from './pending-acquire.ts'
import { platform } from './platform.ts'

export interface NamedMutexOptions {
  /**
   * Who shares the mutex. `'global'`: all users and sessions of the machine, as with the prefix `Global\` in the name.
   * `'local'`: this user (POSIX) or session (Windows). Default: the scope of the name's prefix, else `'local'`.
   */
  readonly scope?: MutexScope | undefined
  /**
   * The lock home, an existing directory. The same name in two lock homes is two mutexes. Default: the environment
   * variable `OS_MUTEX_DIR`, else `/tmp` (POSIX) or `%ProgramData%\os-mutex` (Windows), which is created if missing.
   */
  readonly directory?: string | undefined
  /** What this program calls itself in its owner records. Default: the name of its main script. */
  readonly app?: string | undefined
}

export interface AcquireOptions extends WaitOptions {
  /** Ends the wait: the acquire rejects with `signal.reason`. Has no effect once the lock is acquired. */
  readonly signal?: AbortSignal | undefined
  /** Called once with the owner, when the acquire finds the mutex taken and begins to wait. */
  readonly onWait?: ((owner: OwnerInfo | undefined) => void) | undefined
  /**
   * Whether an acquire inside a withLock callback of the same mutex fails at once (`ERR_MUTEX_DEADLOCK`), instead of
   * waiting for its own caller. Default: `true`. `false` is for work that the callback starts and does not await.
   */
  readonly detectDeadlock?: boolean | undefined
}

export interface AcquireSyncOptions extends WaitOptions {
  /** Called once with the owner, when the mutex is taken and the thread is about to block. */
  readonly onWait?: ((owner: OwnerInfo | undefined) => void) | undefined
}

export interface TryAcquireOptions {
  /** See {@link WaitOptions.purpose}. */
  readonly purpose?: string | undefined
}

const OPTIONS = namesOf<NamedMutexOptions>({ scope: true, directory: true, app: true })
const TRY_ACQUIRE = namesOf<TryAcquireOptions>({ purpose: true })
const ACQUIRE_SYNC = namesOf<AcquireSyncOptions>({ timeoutMs: true, purpose: true, onWait: true })
const ACQUIRE = namesOf<AcquireOptions>({
  timeoutMs: true,
  purpose: true,
  signal: true,
  onWait: true,
  detectDeadlock: true,
})
/** The options of an acquire that was given none: there is nothing to check. */
const NO_OPTIONS = Object.freeze({})

/** Checks the options of a call that takes those of {@link NamedMutex.acquire}. `what`: the call, as in "acquire()". */
export function checkAcquireOptions(options: AcquireOptions, what: string): void {
  checkOptions(options)
  checkKnown(options, ACQUIRE, what)
}

// A blocked worker thread returns to JavaScript this often: worker.terminate() can end it only there.
const WORKER_SLICE_MS = 50
const MAX_SLICE_MS = 86_400_000

function locate(name: string, options: NamedMutexOptions): { scope: MutexScope; location: MutexLocation } {
  const parsed = parseMutexName(name, options.scope)
  return {
    scope: parsed.scope,
    location: platform.locate(parsed, lockHome(checkString('directory', options.directory))),
  }
}

const defaultApp = path.basename(process.argv[1] ?? process.title)

/**
 * A named mutex of the operating system: one owner per name on the machine, across all processes, worker threads and
 * instances. The kernel owns the lock, so it is free as soon as its owner has ended, in any way.
 *
 * All users and sessions of the machine share `new NamedMutex('x', { scope: 'global' })`. Without `scope`, only this
 * user (POSIX) or session (Windows) does. Names follow Win32, so `Global\x` means the former and `Local\x` the latter;
 * in JavaScript the backslash must be doubled. Names are case-sensitive, and may contain any text but a backslash and
 * NUL. `Global` or `Local` followed by a `/`, a `:` or a control character is refused: it is a mistyped backslash. A
 * name has up to 260 UTF-16 units, of which a prefix takes 7 or 6, and the scope `'global'` 7 as well.
 *
 * Not reentrant: a second acquire waits its turn, also through the same instance. Creating an instance touches no file.
 */
export class NamedMutex {
  /** The name as given. */
  readonly name: string
  /** Who shares it, by the option `scope` or the name's prefix. */
  readonly scope: MutexScope
  /**
   * POSIX: the lock file. Any program that calls flock(2) on it takes part. Windows: the owner record's file. There, in
   * the default lock home, any program that calls CreateMutex with the same name takes part.
   */
  readonly path: string

  readonly #core: MutexCore

  /** @throws `TypeError` `ERR_MUTEX_INVALID_NAME`, `ERR_MUTEX_INVALID_ARGUMENT` */
  constructor(name: string, options?: NamedMutexOptions)
  /** @internal The mutex of a lock file that is not in a lock home. */
  constructor(name: string, options: NamedMutexOptions, location: MutexLocation)
  constructor(name: string, options: NamedMutexOptions = {}, given?: MutexLocation) {
    checkOptions(options)
    checkKnown(options, OPTIONS, 'NamedMutex')
    const { scope, location } = given ? { scope: 'global' as const, location: given } : locate(name, options)
    const app = checkString('app', options.app) ?? defaultApp
    this.name = name
    this.scope = scope
    this.path = location.path
    this.#core = new MutexCore(name, location, app, dispatch)
  }

  /**
   * Acquires the lock, and waits for it if needed: no polling, no thread of the libuv pool, no blocked event loop. A
   * free mutex is acquired before the call returns. The order is first come, first served within this process; between
   * processes it is the kernel's (on macOS, none). A pending acquire keeps the process alive.
   *
   * Rejects with `MutexTimeoutError` (`ERR_MUTEX_TIMEOUT`), `signal.reason`, `MutexDeadlockError`
   * (`ERR_MUTEX_DEADLOCK`), `MutexAccessError` (`ERR_MUTEX_ACCESS_DENIED`), or a `MutexError` with
   * `ERR_MUTEX_LOCK_FILE`, `ERR_MUTEX_CLOSED` or `ERR_MUTEX_SYSTEM`; with a `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`
   * for bad options. A failed acquire leaves nothing behind.
   */
  acquire(options: AcquireOptions = NO_OPTIONS): Promise<MutexLock> {
    // Not an async function: its promise would settle some turns later than PendingAcquire's, at every hand-off.
    try {
      return this.#acquire(options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Acquires the lock if it is free and no one in this process waits for it; otherwise returns `null`. Never waits.
   * Just after this process has released a mutex that other processes wait for, it returns `null` to let them go first:
   * for 10 ms, sometimes 30 ms. If nobody takes the turn, that costs at most a tenth of the time.
   * @throws as {@link acquire} rejects
   */
  tryAcquire(options: TryAcquireOptions = NO_OPTIONS): MutexLock | null {
    if (options !== NO_OPTIONS) {
      checkOptions(options)
      checkKnown(options, TRY_ACQUIRE, 'tryAcquire()')
    }
    return this.#core.try(checkString('purpose', options.purpose))
  }

  /**
   * Acquires the lock, and blocks the thread until then: for CLIs, workers and tests. `worker.terminate()` ends a
   * blocked worker within 50 ms.
   * @throws as {@link acquire} rejects; `ERR_MUTEX_DEADLOCK` when this thread itself holds or awaits the mutex
   */
  acquireSync(options: AcquireSyncOptions = {}): MutexLock {
    checkOptions(options)
    checkKnown(options, ACQUIRE_SYNC, 'acquireSync()')
    const { timeoutMs = Number.POSITIVE_INFINITY } = options
    checkTimeout('timeoutMs', timeoutMs)
    const purpose = checkString('purpose', options.purpose)
    checkFunction('onWait', options.onWait)
    const lock = this.#core.try(purpose)
    if (lock !== null) {
      lock.careFor()
      return lock
    }
    this.#checkNotBlockingItself()
    if (timeoutMs === 0) throw this.#core.timeoutError(timeoutMs)
    this.#core.notifyWait(purpose, options.onWait)
    // onWait may have closed the mutex, or begun to wait for it.
    this.#core.checkOpen()
    this.#checkNotBlockingItself()
    return this.#waitSync(timeoutMs, purpose)
  }

  /**
   * Runs `callback` under the lock. Releases it when the promise settles, also on a throw. Resolves with what the
   * callback returns. Rejects as {@link acquire} does, or as the callback does. The options may come before or after
   * the callback.
   */
  withLock<T>(callback: (lock: MutexLock) => T | Promise<T>): Promise<T>
  withLock<T>(options: AcquireOptions, callback: (lock: MutexLock) => T | Promise<T>): Promise<T>
  withLock<T>(callback: (lock: MutexLock) => T | Promise<T>, options: AcquireOptions): Promise<T>
  async withLock<T>(
    first: AcquireOptions | ((lock: MutexLock) => T | Promise<T>),
    second?: AcquireOptions | ((lock: MutexLock) => T | Promise<T>),
  ): Promise<T> {
    const [callback, options = NO_OPTIONS] = typeof first === 'function' ? [first, second] : [second, first]
    checkFunction('callback', callback ?? null)
    checkAcquireOptions(options as AcquireOptions, 'withLock()')
    const lock = await this.acquire(options as AcquireOptions)
    try {
      return await runEnclosed(this.path, lock, () => (callback as (lock: MutexLock) => T | Promise<T>)(lock))
    } finally {
      lock.release()
    }
  }

  /**
   * Reports whether the mutex is held, and by whom, without waiting or acquiring. Takes some 20 µs, and on Linux 6 µs
   * more for each lock that anybody on the machine holds. For people and messages: the answer may be old at once.
   * @throws `MutexError` as {@link acquire} rejects with
   */
  query(): MutexState {
    return this.#core.query(true)
  }

  /**
   * Closes the instance: pending acquires reject with `ERR_MUTEX_CLOSED`, later calls throw it. A held lock stays held
   * until it is released. Closes the descriptors at once; an instance that is not closed does so some seconds after its
   * last use. A second call does nothing.
   */
  close(): void {
    this.#core.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #acquire(options: AcquireOptions): Promise<MutexLock> {
    if (options !== NO_OPTIONS) checkAcquireOptions(options, 'acquire()')
    const { timeoutMs = Number.POSITIVE_INFINITY } = options
    checkTimeout('timeoutMs', timeoutMs)
    const signal = checkSignal(options.signal)
    const purpose = checkString('purpose', options.purpose)
    const { onWait } = options
    checkFunction('onWait', onWait)
    checkBoolean('detectDeadlock', options.detectDeadlock)
    if (signal?.aborted) throw abortReason(signal)
    if (options.detectDeadlock !== false) checkNotEnclosed(this.path, this.name)
    const lock = this.#core.try(purpose)
    if (lock !== null) return Promise.resolve(lock)
    if (timeoutMs === 0) throw this.#core.timeoutError(timeoutMs)
    // A timer's own stack would not show who waited. The text of this one is made only when it is read.
    const trace: { stack?: string } = {}
    Error.captureStackTrace(trace, this.acquire)
    return PendingAcquire.start(this.#core, { timeoutMs, signal, purpose, onWait, trace })
  }

  #checkNotBlockingItself(): void {
    if (this.#core.native.isTakenInThisThread()) throw selfBlockingError(this.name)
  }

  #waitSync(timeoutMs: number, purpose: string | undefined): MutexLock {
    const { native } = this.#core
    const startedAt = performance.now()
    const hold = native.enqueueSync(purposeJson(purpose))
    for (;;) {
      const left = timeoutMs - (performance.now() - startedAt)
      const slice = Math.min(Math.max(left, 0), isMainThread ? MAX_SLICE_MS : WORKER_SLICE_MS)
      const grant = this.#core.guard(() => native.waitSync(hold, slice))
      if (grant !== undefined) {
        const lock = this.#core.newLock()
        lock.begin(hold, purpose)
        this.#core.acquired(lock, grant, purpose)
        lock.careFor()
        return lock
      }
      if (left <= 0 && native.cancel(hold, false)) throw this.#core.timeoutError(timeoutMs)
    }
  }
}
