import path from 'node:path'
import { isMainThread } from 'node:worker_threads'
import { checkNotEnclosed, runEnclosed, selfBlockingError } from './deadlock.ts'
import { lockHome } from './lock-home.ts'
import { MutexCore, type MutexState } from './mutex-core.ts'
import type { MutexLock } from './mutex-lock.ts'
import { type MutexScope, parseMutexName } from './mutex-name.ts'
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
   * `'local'`: this user (POSIX) or session (Windows). Default: what the prefix says, else `'local'`.
   */
  readonly scope?: MutexScope
  /**
   * The lock home, an existing directory. Mutexes of different homes are different. Default: the
   * environment variable `OS_MUTEX_DIR`, else `/tmp` (POSIX) or `%ProgramData%\\os-mutex`, which is made (Windows).
   */
  readonly directory?: string
  /** What this program calls itself in its owner records. Default: the name of its main script. */
  readonly app?: string
}

export interface AcquireOptions extends WaitOptions {
  /** Ends the wait: the acquire rejects with `signal.reason`. Has no effect once the lock is acquired. */
  readonly signal?: AbortSignal
  /** Called once, when the acquire finds the mutex taken and begins to wait, with who holds it. */
  readonly onWait?: (owner: OwnerInfo | undefined) => void
  /**
   * Fail at once (`ERR_MUTEX_DEADLOCK`) instead of waiting for oneself, inside a withLock callback of the same mutex.
   * Default true. `false` is for work that the callback starts and does not await.
   */
  readonly detectDeadlock?: boolean
}

export interface AcquireSyncOptions extends WaitOptions {
  /** Called once, when the mutex is taken and the thread is about to block, with who holds it. */
  readonly onWait?: (owner: OwnerInfo | undefined) => void
}

export interface TryAcquireOptions {
  /** See {@link WaitOptions.purpose}. */
  readonly purpose?: string
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
/** Of an acquire without options: there is nothing to look at. */
const NO_OPTIONS = Object.freeze({})

/** For every call that takes the options of {@link NamedMutex.acquire}. `what` is the call, as in "acquire()". */
export function checkAcquireOptions(options: AcquireOptions, what: string): void {
  checkOptions(options)
  checkKnown(options, ACQUIRE, what)
}

// A blocked worker thread looks up this often, since only running JavaScript can be ended by worker.terminate().
const WORKER_SLICE_MS = 50
const MAX_SLICE_MS = 86_400_000

const defaultApp = path.basename(process.argv[1] ?? process.title)

/**
 * A named mutex of the operating system: one owner per name on the machine, whichever process, worker thread or
 * instance it is in. The kernel owns the lock, so it is free as soon as its owner has ended, in any way.
 *
 * `new NamedMutex('x', { scope: 'global' })` excludes all users and sessions of the machine, without `scope` this user
 * (POSIX) or session (Windows). Names follow Win32, so `Global\x` is the former and `Local\x` the latter: in JavaScript
 * the backslash must be doubled. Case-sensitive; any text but a backslash and NUL; not `Global` or `Local` and then a
 * `/`, a `:` or a control character, which are mistyped backslashes. Up to 260 UTF-16 units, of which a prefix takes 7
 * or 6, and the scope `'global'` 7 as well.
 *
 * Not reentrant: a second acquire waits its turn, also through the same instance. Creating an instance touches no file.
 */
export class NamedMutex {
  /** The name as given. */
  readonly name: string
  /** Who shares it, by the option `scope` or the name's prefix. */
  readonly scope: MutexScope
  /**
   * POSIX: the lock file. Any program that calls flock(2) on it takes part. Windows: the file of the owner's record.
   * There any program takes part that calls CreateMutex with the same name, in the default lock home.
   */
  readonly path: string

  readonly #core: MutexCore

  /** @throws `TypeError` `ERR_MUTEX_INVALID_NAME`, `ERR_MUTEX_INVALID_ARGUMENT` */
  constructor(name: string, options: NamedMutexOptions = {}) {
    checkOptions(options)
    checkKnown(options, OPTIONS, 'NamedMutex')
    const parsed = parseMutexName(name, options.scope)
    const location = platform.locate(parsed, lockHome(checkString('directory', options.directory)))
    const app = checkString('app', options.app) ?? defaultApp
    this.name = name
    this.scope = parsed.scope
    this.path = location.path
    this.#core = new MutexCore(name, location, app, dispatch)
  }

  /**
   * Takes the lock, waiting for it if need be: no polling, no thread of the libuv pool, no blocked event loop. A free
   * mutex is taken before the call returns. First come, first served in this process; between processes as the kernel
   * queues them (on macOS in no order). A pending acquire keeps the process alive.
   *
   * Rejects with `MutexTimeoutError` (`ERR_MUTEX_TIMEOUT`), `signal.reason`, `MutexDeadlockError`
   * (`ERR_MUTEX_DEADLOCK`), `MutexAccessError` (`ERR_MUTEX_ACCESS_DENIED`), or a `MutexError` with
   * `ERR_MUTEX_LOCK_FILE`, `ERR_MUTEX_CLOSED` or `ERR_MUTEX_SYSTEM`; with a `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`
   * for bad options. Then nothing is left behind.
   */
  acquire(options: AcquireOptions = NO_OPTIONS): Promise<MutexLock> {
    // Not an async function: its promise would be settled some turns later than the one of #wait, at every hand-off.
    try {
      return this.#acquire(options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Takes the lock if it is free and no one in this process waits for it; else `null`. Never waits. For a moment after
   * this process has released a mutex that other processes wait for, it leaves the turn to them (10 ms, now and then
   * 30 ms, and never more than a tenth of the time in vain).
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
   * Takes the lock and blocks the thread until it has it: for CLIs, workers and tests. `worker.terminate()` gets a
   * blocked worker out within 50 ms.
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
   * Runs `callback` under the lock and releases it when the promise settles, also on a throw. Gives what the callback
   * gives. Rejects as {@link acquire} does, or as the callback does. The options may come before the callback or after
   * it.
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
   * Looks whether the mutex is held, and by whom, without waiting or taking it. Takes some 20 µs, and on Linux 6 µs more
   * for each lock that anybody holds on the machine; meant for people and
   * messages, since the answer may be old at once.
   * @throws `MutexError` as {@link acquire} rejects with
   */
  query(): MutexState {
    return this.#core.query(true)
  }

  /**
   * Ends the instance: waiting acquires reject with `ERR_MUTEX_CLOSED`, later calls throw it. A lock that is held stays
   * so until it is released. Gives back its descriptors at once; a mutex that is not closed does so some seconds after
   * its last use. Again does nothing.
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
    // The timer's own stack would say nothing of who waited. Its text is made only when it is read.
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
