import { inspect } from 'node:util'
import { MutexArgumentError, MutexTimeoutError } from './errors.ts'
import type { MutexLock } from './mutex-lock.ts'
import { type AcquireOptions, checkAcquireOptions, NamedMutex } from './named-mutex.ts'
import { checkTimeout, invalidArgument } from './options.ts'
import { timeoutError } from './timeout-error.ts'

/** Several held locks, released together. */
export class MutexLocks {
  /** The locks, in the order of the mutexes that were asked for. */
  readonly locks: readonly MutexLock[]

  /** @internal */
  constructor(locks: readonly MutexLock[]) {
    this.locks = locks
  }

  /** Whether the previous owner of any of them ended without releasing. */
  get abandoned(): boolean {
    return this.locks.some((lock) => lock.abandoned)
  }

  /** Releases all of them: done when it returns. Again does nothing. */
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
 * Takes several mutexes, all or none, always in one order (of their lock files' paths), so that two callers who want
 * the same ones can't wait for each other. `timeoutMs` is for all of them together. When it gives up, those that it had
 * taken are as before, also abandoned. A name has the scope that its prefix says, else local; a `NamedMutex` brings its
 * own: `acquireAll([new NamedMutex('a', { scope: 'global' }), new NamedMutex('b', { scope: 'global' })])`. Rejects as
 * {@link NamedMutex.acquire} does, and with `ERR_MUTEX_INVALID_ARGUMENT` when a mutex is named twice.
 */
export async function acquireAll(
  mutexes: readonly (string | NamedMutex)[],
  options: AcquireOptions = {},
): Promise<MutexLocks> {
  if (!Array.isArray(mutexes))
    throw invalidArgument('acquireAll() takes an array of names or NamedMutex objects, and after it the options')
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
      `acquireAll was asked for the mutex ${JSON.stringify(twice.name)} twice, and would wait for itself`,
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
    // An abandonment that one of them has reported is not lost: the next owner learns of it.
    for (const lock of held.values()) lock.giveBack()
    // The last mutex only knows what was left of the time.
    throw error instanceof MutexTimeoutError ? timeoutError(error.mutexName, timeoutMs, error) : error
  } finally {
    // Those made here are nobody else's. The locks stay.
    for (const mutex of wanted) if (!mutexes.includes(mutex)) mutex.close()
  }
  return new MutexLocks(wanted.flatMap((mutex) => held.get(mutex) ?? []))
}
