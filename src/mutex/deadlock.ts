// Notices a wait for oneself: an acquire inside a withLock callback of the same mutex, told by the asynchronous
// context.
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

/** Runs `callback` as the one that `lock` encloses. `path` is the mutex, however its name is spelt. */
export function runEnclosed<T>(path: string, lock: MutexLock, callback: () => T): T {
  // Work that a callback has started and not awaited keeps its context for good. Each round of a program that starts
  // its next one so would add to the chain.
  let outer = context.getStore()
  while (outer?.lock.released === true) outer = outer.outer
  return context.run({ path, lock, outer }, callback)
}

/** Throws `ERR_MUTEX_DEADLOCK` when an enclosing callback holds the mutex at `path`. */
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
    `Mutex ${JSON.stringify(name)} is held or awaited by this very thread, which acquireSync() would block, so the wait ` +
      'could never end. Release the lock first, or use acquire().',
  )
}
