import { inspect } from 'node:util'
import { MutexArgumentError, MutexTimeoutError } from './errors.ts'
import type { MutexLock } from './mutex-lock.ts'
import { type AcquireOptions, checkAcquireOptions, NamedMutex } from './named-mutex.ts'
import { checkTimeout, invalidArgument } from './options.ts'
import { timeoutError } from './timeout-error.ts'

/** Several held locks, released together. */
export class MutexLocks {
  /** The locks, in the order in which their mutexes were given. */
  readonly locks: readonly MutexLock[]

  /** @internal */
  constructor(locks: readonly MutexLock[]) {
    this.locks = locks
  }

  /** Whether the previous owner of any of them ended without releasing. */
  get abandoned(): boolean {
    return this.locks.some((lock) => lock.abandoned)
  }

  /** Releases all of them. They are free when it returns. A second call does nothing. */
  release(): void {
    for (const lock of this.locks) lock.release()
  }

  [Symbol.dispose](): void {
    this.release()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release()
  }
}

/**
 * Acquires several mutexes, all or none. They are always acquired in one order (of their lock files' paths), so two
 * callers that need the same mutexes can't wait for each other. `timeoutMs` is for all of them together. If the call
 * fails, the mutexes that it had already acquired are as they were before, abandoned ones included. A name has the
 * scope of its prefix, or else local; a `NamedMutex` has its own scope:
 * `acquireAll([new NamedMutex('a', { scope: 'global' }), new NamedMutex('b', { scope: 'global' })])`. Rejects as
 * {@link NamedMutex.acquire} does, and with `ERR_MUTEX_INVALID_ARGUMENT` if a mutex is given twice.
 */
export async function acquireAll(
  mutexes: readonly (string | NamedMutex)[],
  options: AcquireOptions = {},
): Promise<MutexLocks> {
  if (!Array.isArray(mutexes))
    throw invalidArgument('acquireAll() takes an array of names or NamedMutex objects, then the options')
  checkAcquireOptions(options, 'acquireAll()')
  const { timeoutMs = Number.POSITIVE_INFINITY } = options
  checkTimeout('timeoutMs', timeoutMs)
  const odd = mutexes.find((mutex) => typeof mutex !== 'string' && !(mutex instanceof NamedMutex))
  if (odd !== undefined)
    throw invalidArgument(`acquireAll() takes names or NamedMutex objects, not ${inspect(odd, { depth: 0 })}`)
  const wanted = mutexes.map((mutex) => (typeof mutex === 'string' ? new NamedMutex(mutex) : mutex))
  const inOrder = [...wanted].sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0))
  const twice = inOrder.find((mutex, index) => mutex.path === inOrder[index - 1]?.path)
  if (twice !== undefined) {
    throw new MutexArgumentError(
      'ERR_MUTEX_INVALID_ARGUMENT',
      `acquireAll() was given the mutex ${JSON.stringify(twice.name)} twice. It would wait for itself.`,
    )
  }
  const startedAt = performance.now()
  const held = new Map<NamedMutex, MutexLock>()
  try {
    for (const mutex of inOrder) {
      const left = Math.max(0, timeoutMs - (performance.now() - startedAt))
      held.set(mutex, await mutex.acquire({ ...options, timeoutMs: left }))
    }
  } catch (error) {
    // If one of them was granted as abandoned, that is not lost: its next owner learns of it.
    for (const lock of held.values()) lock.giveBack()
    // The error of that mutex names only the time that was left for it.
    throw error instanceof MutexTimeoutError ? timeoutError(error.mutexName, timeoutMs, error) : error
  } finally {
    // Only this call uses the instances that it made. Closing them does not release the locks.
    for (const mutex of wanted) if (!mutexes.includes(mutex)) mutex.close()
  }
  return new MutexLocks(wanted.flatMap((mutex) => held.get(mutex) ?? []))
}
