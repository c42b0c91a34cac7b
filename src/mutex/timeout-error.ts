import { MutexTimeoutError } from './errors.ts'
import { describeOwner, type OwnerInfo } from './owner-info.ts'

/** The error of an acquire that gave up: what it waited for, how long, who holds it, and what to do. */
export function timeoutError(
  mutexName: string,
  timeoutMs: number,
  { owner }: { readonly held: boolean; readonly owner?: OwnerInfo },
): MutexTimeoutError {
  return new MutexTimeoutError(
    `Mutex ${JSON.stringify(mutexName)} was not free within ${timeoutMs} ms. It is held by ${describeOwner(owner)}.`,
    { mutexName, timeoutMs, owner },
  )
}
