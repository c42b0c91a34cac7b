// Detects an acquire that would wait for its own caller: one inside a withLock callback of the same mutex, as the
// asynchronous context shows.
import { AsyncLocalStorage } from 'node:async_hooks'
import { MutexDeadlockError } from './errors.ts'
import type { MutexLock } from './mutex-lock.ts'

/** The locks whose withLock callbacks enclose the running code, innermost first. */
interface Enclosing {
  readonly path: string
  readonly lock: MutexLock
  readonly outer: Enclosing | undefined
}

const context = new AsyncLocalStorage<Enclosing>()

/** Runs `callback` as enclosed by `lock`. `path` identifies the mutex, however its name is spelt. */
export function runEnclosed<T>(path: string, lock: MutexLock, callback: () => T): T {
  // Work that a callback starts and does not await keeps its context forever. If the rounds of a program start each
  // other in this way, every round would add to the chain. So released locks are dropped from it.
  let outer = context.getStore()
  while (outer?.lock.released === true) outer = outer.outer
  return context.run({ path, lock, outer }, callback)
}

/** @throws `MutexDeadlockError` `ERR_MUTEX_DEADLOCK` when an enclosing callback holds the mutex at `path` */
export function checkNotEnclosed(path: string, name: string): void {
  for (let at = context.getStore(); at !== undefined; at = at.outer) {
    // Work that the callback started and did not await keeps the context after the lock is released.
    if (at.path !== path || at.lock.released) continue
    throw new MutexDeadlockError(
      `Mutex ${JSON.stringify(name)} is held by the withLock callback that this acquire is part of, so it would wait for ` +
        'itself: mutexes are not reentrant. Use the lock that the callback was given, or pass "detectDeadlock: false" ' +
        'for work that the callback starts and does not await.',
    )
  }
}

/** For {@link NamedMutex.acquireSync}: the blocked thread is the only one that could end the wait. */
export function selfBlockingError(name: string): MutexDeadlockError {
  return new MutexDeadlockError(
    `Mutex ${JSON.stringify(name)} is held or awaited by this thread. acquireSync() would block this thread, so ` +
      'the wait could never end. Release the lock first, or use acquire().',
  )
}
