import { MutexTimeoutError } from './errors.ts'
import { describeOwner, type OwnerInfo } from './owner-info.ts'

/** The error of an acquire that gave up: says what it waited for, how long, and who holds it. */
export function timeoutError(mutexName: string, timeoutMs: number, owner: OwnerInfo | undefined): MutexTimeoutError {
  return new MutexTimeoutError(
    `Mutex ${JSON.stringify(mutexName)} was not free within ${timeoutMs} ms. It is held by ${describeOwner(owner)}.`,
    { mutexName, timeoutMs, owner },
  )
}
