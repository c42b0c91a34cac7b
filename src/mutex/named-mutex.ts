import path from 'node:path'
import { isMainThread, threadId } from 'node:worker_threads'
import { addon, isUnrecorded, type NativeFailure, type NativeMutex, type Token } from './addon.ts'
import { checkNotEnclosed, runEnclosed, selfBlockingError } from './deadlock.ts'
import { MutexError, type MutexTimeoutError } from './errors.ts'
import { platform } from './location.ts'
import { lockHome } from './lock-home.ts'
import { describeLock, discardLock, MutexLock, promiseLock } from './mutex-lock.ts'
import { parseMutexName } from './mutex-name.ts'
import { toMutexError } from './native-failure.ts'
import {
  abortReason,
  allowManyWaits,
  checkFunction,
  checkOptions,
  checkSignal,
  checkString,
  checkTimeout,
  type WaitOptions,
} from './options.ts'
import { type OwnerInfo, ownerJson, parseOwnerRecord, purposeJson } from './owner-info.ts'
import { currentProcess, isRunning } from './process-identity.ts'
import { warnUnrecorded } from './record-warning.ts'
import { channels, tell } from './telemetry.ts'
import { timeoutError } from './timeout-error.ts'

export interface NamedMutexOptions {
  /**
   * The lock home, an existing directory. Mutexes of different homes are different, whatever their names. Default: the environment
   * variable `OS_MUTEX_DIR`, else `/tmp` (POSIX) or `%ProgramData%\\os-mutex`, which is made (Windows).
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

/** What {@link NamedMutex.query} saw. */
export interface MutexState {
  readonly held: boolean
  /** The owner, where it is held and can be told: all of its record, or only the pid of a program that leaves none. */
  readonly owner?: OwnerInfo
}

/** By request id: takes the outcome. Also keeps the native object, and so the place in the line, alive. */
const pending = new Map<number, () => void>()

function dispatch(id: number): void {
  pending.get(id)?.()
}

// The longest delay of setTimeout: 24.8 days.
const MAX_TIMER_MS = 2 ** 31 - 1
// A blocked worker thread looks up this often, since only running JavaScript can be ended by worker.terminate().
const WORKER_SLICE_MS = 50
const MAX_SLICE_MS = 86_400_000

const defaultApp = path.basename(process.argv[1] ?? process.title)

/** Whether a record marked as held is the present owner's, and not one that a dead owner left under a foreign one. */
function isOfOwner(record: OwnerInfo, kernelPid: number): boolean {
  const { host, bootId, processStart, pidSpace } = record
  const countsPidsAsWeDo = pidSpace === undefined || pidSpace === currentProcess().pidSpace
  if (kernelPid !== 0 && countsPidsAsWeDo) return record.pid === kernelPid
  if (host === undefined || bootId === undefined || processStart === undefined) return true
  return isRunning({ ...record, host, bootId, processStart }) !== false
}

function kernelOwner(kernelPid: number): OwnerInfo | undefined {
  return kernelPid === 0 ? undefined : { pid: kernelPid }
}

/**
 * A named mutex of the operating system: one owner per name on the machine, whichever process, worker thread or instance it
 * is in. The kernel owns the lock, so whatever ends the owner frees it at once.
 *
 * Names follow Win32: `Global\x` excludes all users and sessions, `Local\x` or plain `x` this user (POSIX) or session
 * (Windows). Case-sensitive, up to 260 UTF-16 units, any text but a backslash and NUL.
 *
 * Not reentrant: a second acquire waits its turn, also through the same instance. Creating an instance touches no file.
 */
export class NamedMutex {
  /** The name as given. */
  readonly name: string
  /**
   * POSIX: the lock file. Any program that calls flock(2) on it takes part. Windows: the file of the owner's record. There any
   * program takes part that calls CreateMutex with the same name, in the default lock home.
   */
  readonly path: string

  readonly #native: NativeMutex
  readonly #waits = new Set<(error: MutexError) => void>()
  #closed = false

  /** @throws `TypeError` `ERR_MUTEX_INVALID_NAME`, `ERR_MUTEX_INVALID_ARGUMENT` */
  constructor(name: string, options: NamedMutexOptions = {}) {
    checkOptions(options)
    const location = platform.locate(parseMutexName(name), lockHome(checkString('directory', options.directory)))
    const app = checkString('app', options.app) ?? defaultApp
    this.name = name
    this.path = location.path
    this.#native = new addon.NativeMutex(
      location.path,
      location.ownDirectory,
      location.objectName,
      ownerJson(currentProcess(), app, threadId),
      dispatch,
    )
  }

  /**
   * Takes the lock, waiting for it if need be: no polling, no thread of the libuv pool, no blocked event loop. A free mutex
   * is taken before the call returns. First come, first served in this process; between processes as the kernel queues
   * them. A pending acquire keeps the process alive.
   *
   * Rejects with `MutexTimeoutError` (`ERR_MUTEX_TIMEOUT`), `signal.reason`, `MutexDeadlockError` (`ERR_MUTEX_DEADLOCK`),
   * `MutexAccessError` (`ERR_MUTEX_ACCESS_DENIED`), or a `MutexError` with `ERR_MUTEX_LOCK_FILE`, `ERR_MUTEX_CLOSED` or
   * `ERR_MUTEX_SYSTEM`; with a `TypeError` `ERR_MUTEX_INVALID_ARGUMENT` for bad options. Then nothing is left behind.
   */
  acquire(options: AcquireOptions = {}): Promise<MutexLock> {
    // Not an async function: its promise would be settled some turns later than the one of #wait, at every hand-off.
    try {
      return this.#acquire(options)
    } catch (error) {
      return Promise.reject(error)
    }
  }

  /**
   * Takes the lock if it is free and no one in this process waits for it; else `null`. Never waits. For 10 ms after this
   * process has released a mutex that other processes wait for, it leaves the turn to them.
   * @throws as {@link acquire} rejects
   */
  tryAcquire(options: TryAcquireOptions = {}): MutexLock | null {
    checkOptions(options)
    const purpose = checkString('purpose', options.purpose)
    const token = this.#try(purpose)
    return token === 0 ? null : this.#lock(token, 0, purpose)
  }

  /**
   * Takes the lock and blocks the thread until it has it: for CLIs, workers and tests. `worker.terminate()` gets a blocked
   * worker out within 50 ms.
   * @throws as {@link acquire} rejects; `ERR_MUTEX_DEADLOCK` when this thread itself holds or awaits the mutex
   */
  acquireSync(options: AcquireSyncOptions = {}): MutexLock {
    checkOptions(options)
    const { timeoutMs = Number.POSITIVE_INFINITY } = options
    checkTimeout('timeoutMs', timeoutMs)
    const purpose = checkString('purpose', options.purpose)
    checkFunction('onWait', options.onWait)
    const token = this.#try(purpose)
    if (token !== 0) return this.#lock(token, 0, purpose)
    if (this.#native.isTakenInThisThread()) throw selfBlockingError(this.name)
    if (timeoutMs === 0) throw this.#timeoutError(timeoutMs)
    this.#tellWait(purpose, options.onWait)
    // onWait may have closed the mutex, or begun to wait for it.
    this.#checkOpen()
    if (this.#native.isTakenInThisThread()) throw selfBlockingError(this.name)
    return this.#waitSync(timeoutMs, purpose)
  }

  /**
   * Runs `callback` under the lock and releases it when the promise settles, also on a throw. Gives what the callback gives.
   * Rejects as {@link acquire} does, or as the callback does.
   */
  withLock<T>(callback: (lock: MutexLock) => T | Promise<T>): Promise<T>
  withLock<T>(options: AcquireOptions, callback: (lock: MutexLock) => T | Promise<T>): Promise<T>
  async withLock<T>(
    first: AcquireOptions | ((lock: MutexLock) => T | Promise<T>),
    second?: (lock: MutexLock) => T | Promise<T>,
  ): Promise<T> {
    const callback = typeof first === 'function' ? first : second
    checkFunction('callback', callback ?? null)
    const lock = await this.acquire(typeof first === 'function' ? {} : first)
    try {
      return await runEnclosed(this.path, lock, () => (callback as (lock: MutexLock) => T | Promise<T>)(lock))
    } finally {
      lock.release()
    }
  }

  /**
   * Looks whether the mutex is held, and by whom, without waiting or taking it. Takes some 20 µs; meant for people and
   * messages, since the answer may be old at once.
   * @throws `MutexError` as {@link acquire} rejects with
   */
  query(): MutexState {
    this.#checkOpen()
    const seen = this.#guard(() => this.#native.query())
    if (!seen.held) return { held: false }
    const record = seen.recordIsOwners ? parseOwnerRecord(seen.record) : undefined
    const owner = record !== undefined && isOfOwner(record, seen.kernelPid) ? record : kernelOwner(seen.kernelPid)
    return owner === undefined ? { held: true } : { held: true, owner }
  }

  /**
   * Ends the instance: waiting acquires reject with `ERR_MUTEX_CLOSED`, later calls throw it. A lock that is held stays so
   * until it is released. Again does nothing.
   */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    for (const fail of [...this.#waits]) fail(this.#closedError())
    this.#native.close()
  }

  [Symbol.dispose](): void {
    this.close()
  }

  #closedError(): MutexError {
    return new MutexError('ERR_MUTEX_CLOSED', `Mutex ${JSON.stringify(this.name)}: this instance was closed`)
  }

  #checkOpen(): void {
    if (this.#closed) throw this.#closedError()
  }

  #guard<T>(call: () => T): T {
    try {
      return call()
    } catch (failure) {
      throw toMutexError(this.name, failure as NativeFailure)
    }
  }

  #try(purpose: string | undefined): Token {
    this.#checkOpen()
    return this.#guard(() => this.#native.tryAcquire(purposeJson(purpose)))
  }

  #acquire(options: AcquireOptions): Promise<MutexLock> {
    checkOptions(options)
    const { timeoutMs = Number.POSITIVE_INFINITY } = options
    checkTimeout('timeoutMs', timeoutMs)
    const signal = checkSignal(options.signal)
    const purpose = checkString('purpose', options.purpose)
    checkFunction('onWait', options.onWait)
    if (signal?.aborted) throw abortReason(signal)
    if (options.detectDeadlock !== false) checkNotEnclosed(this.path, this.name)
    const token = this.#try(purpose)
    if (token !== 0) return Promise.resolve(this.#lock(token, 0, purpose))
    if (timeoutMs === 0) throw this.#timeoutError(timeoutMs)
    return this.#wait(timeoutMs, signal, purpose, options.onWait)
  }

  #lock(token: Token, waitedMs: number, purpose: string | undefined): MutexLock {
    const lock = new MutexLock(this.name, this.#native, token)
    this.#acquired(lock, token, performance.now(), waitedMs, purpose)
    return lock
  }

  #acquired(lock: MutexLock, token: Token, acquiredAt: number, waitedMs: number, purpose: string | undefined): void {
    if (isUnrecorded(token)) warnUnrecorded(this.#native.recordFailure())
    describeLock(lock, token, acquiredAt, waitedMs)
    const why = purpose === undefined ? {} : { purpose }
    tell('acquire', () => ({ mutex: this.name, ...why, waitedMs, abandoned: lock.abandoned }))
    if (lock.abandoned) {
      tell('abandoned', () => {
        const { previousOwner } = lock
        return { mutex: this.name, ...(previousOwner === undefined ? {} : { previousOwner }) }
      })
    }
  }

  /** For messages: who can't be told, for example for want of a descriptor, must not turn a timeout into another error. */
  #ownerIfTold(): OwnerInfo | undefined {
    try {
      return this.query().owner
    } catch {
      return undefined
    }
  }

  #tellWait(purpose: string | undefined, onWait: ((owner: OwnerInfo | undefined) => void) | undefined): void {
    tell('wait', () => ({ mutex: this.name, ...(purpose === undefined ? {} : { purpose }) }))
    onWait?.(this.#ownerIfTold())
  }

  #timeoutError(timeoutMs: number): MutexTimeoutError {
    const owner = this.#ownerIfTold()
    tell('timeout', () => ({ mutex: this.name, timeoutMs, ...(owner === undefined ? {} : { owner }) }))
    return timeoutError(this.name, timeoutMs, owner)
  }

  // Exactly one of four ends it: the grant (or failure), the timer, the signal, or close(). All run on this thread, so the first to come
  // takes the others away. (Where the addon resolves the promise itself, they go a little later: by then they find nothing to call off.) The grant may have been made on another thread and not be told yet:
  // a timer then lets it win, since to refuse a lock that is there helps nobody; a signal or close() gives it back, unseen.
  #wait(
    timeoutMs: number,
    signal: AbortSignal | undefined,
    purpose: string | undefined,
    onWait: ((owner: OwnerInfo | undefined) => void) | undefined,
  ): Promise<MutexLock> {
    const startedAt = performance.now()
    const id = this.#native.enqueue(purposeJson(purpose))
    const lock = new MutexLock(this.name, this.#native, this.#native.tokenOf(id))
    return new Promise<MutexLock>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined
      const cleanUp = () => {
        pending.delete(id)
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#waits.delete(fail)
      }
      const callOff = (takeBack: boolean): boolean => {
        if (!this.#native.cancel(id, takeBack)) return false
        cleanUp()
        discardLock(lock)
        return true
      }
      const fail = (error: unknown) => {
        if (callOff(true)) reject(error)
      }
      const onAbort = () => fail(signal && abortReason(signal))
      const armTimer = () => {
        const left = timeoutMs - (performance.now() - startedAt)
        timer = setTimeout(left > MAX_TIMER_MS ? armTimer : onTimeout, Math.min(left, MAX_TIMER_MS))
      }
      const onTimeout = () => {
        if (callOff(false)) reject(this.#timeoutError(timeoutMs))
      }
      const settle = () => {
        let token: Token
        try {
          token = this.#guard(() => this.#native.take(id))
        } catch (error) {
          cleanUp()
          discardLock(lock)
          return reject(error)
        }
        if (token === 0) return
        cleanUp()
        const waitedMs = this.#native.waitedMs()
        this.#acquired(lock, token, startedAt + waitedMs, waitedMs, purpose)
        resolve(lock)
      }
      pending.set(id, settle)
      // A plain grant resolves the promise before it is settled: that is what the next owner waits for, and all who come after it. Only
      // where somebody listens it must be told before the owner goes on.
      if (!channels.acquire.hasSubscribers) {
        promiseLock(lock, settle)
        this.#native.handTo(id, resolve as (lock: object) => void, lock)
      }
      this.#waits.add(fail)
      if (signal !== undefined) {
        allowManyWaits(signal)
        signal.addEventListener('abort', onAbort, { once: true })
      }
      if (timeoutMs !== Number.POSITIVE_INFINITY) armTimer()
      try {
        this.#tellWait(purpose, onWait)
      } catch (error) {
        fail(error)
      }
    })
  }

  #waitSync(timeoutMs: number, purpose: string | undefined): MutexLock {
    const startedAt = performance.now()
    const id = this.#native.enqueueSync(purposeJson(purpose))
    for (;;) {
      const left = timeoutMs - (performance.now() - startedAt)
      const slice = Math.min(Math.max(left, 0), isMainThread ? MAX_SLICE_MS : WORKER_SLICE_MS)
      this.#native.waitSync(id, slice)
      const token = this.#guard(() => this.#native.take(id))
      if (token !== 0) return this.#lock(token, performance.now() - startedAt, purpose)
      if (left <= 0 && this.#native.cancel(id, false)) throw this.#timeoutError(timeoutMs)
    }
  }
}
