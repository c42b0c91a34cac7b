import { MutexTimeoutError } from '../../mutex/errors.ts'
import { describeHolder, type HeldState } from '../../mutex/timeout-error.ts'

/** The mutex's own timeout error, with a message about the file instead of the mutex's name. */
export function waitTimeoutError(
  work: string,
  option: string,
  { mutexName, timeoutMs }: { readonly mutexName: string; readonly timeoutMs: number },
  { held, owner }: HeldState,
): MutexTimeoutError {
  const waited = `Waited ${timeoutMs / 1000} s in vain for the lock to ${work}.`
  const details = { mutexName, timeoutMs, held, owner }
  return new MutexTimeoutError(`${waited} ${describeHolder(details, option)}`, details)
}
