import { describeOwner } from './describe-owner.ts'
import { MutexTimeoutError } from './errors.ts'
import type { OwnerInfo } from './owner-info.ts'
import { isThisProcess } from './process-identity.ts'

/** What a look at the mutex showed after the time had run out. */
export interface HeldState {
  readonly held: boolean
  readonly owner?: OwnerInfo | undefined
}

/** The error of an acquire that gave up: says what it waited for, how long, who holds it, and what to do. */
export function timeoutError(mutexName: string, timeoutMs: number, { held, owner }: HeldState): MutexTimeoutError {
  const waited = `Mutex ${JSON.stringify(mutexName)} was not free within ${timeoutMs} ms.`
  return new MutexTimeoutError(`${waited} ${describeHolder({ held, owner }, 'timeoutMs')}`, {
    mutexName,
    timeoutMs,
    held,
    owner,
  })
}

/** Who holds it and the next step, in sentences. `option`: the one that makes the wait longer. */
export function describeHolder({ held, owner }: HeldState, option: string): string {
  if (!held) {
    return (
      'It was free again when its owner was looked up: other acquires were queued before this one, or it was released ' +
      `just too late. Try again, or wait longer (${option}).`
    )
  }
  return `It is held by ${describeOwner(owner)}. ${nextStep(owner, option)}`
}

function nextStep(owner: OwnerInfo | undefined, option: string): string {
  const longer = `Wait longer (${option})`
  if (owner === undefined) return `${longer}, or find the program that holds it and end it.`
  const isOurs = isThisProcess(owner)
  if (owner.collected) {
    const keep = 'keep a reference to each lock and release it, for example by "await using" or withLock()'
    return isOurs ? `Restart this process, and ${keep}.` : `End that process; in its code, ${keep}.`
  }
  if (isOurs) return `${longer}, or let this process finish its work first: a mutex is not reentrant.`
  if (owner.confirmed === false) return `${longer}, or end that process after checking that it is the right one.`
  return `${longer}, or end that process.`
}
