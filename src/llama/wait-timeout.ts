import { MutexTimeoutError } from '../mutex/errors.ts'
import type { OwnerInfo } from '../mutex/owner-info.ts'
import { describeOwner } from '../mutex/owner-info.ts'

/** The mutex's own timeout error, with a message about the file instead of the mutex's name. */
export function waitTimeoutError(
  work: string,
  option: string,
  details: { readonly mutexName: string; readonly timeoutMs: number; readonly owner: OwnerInfo | undefined },
): MutexTimeoutError {
  const waited = `Waited ${details.timeoutMs / 1000} s in vain to ${work}`
  const advice = `Wait longer (${option}), or end that process.`
  return new MutexTimeoutError(`${waited}. The lock is held by ${describeOwner(details.owner)}. ${advice}`, details)
}
