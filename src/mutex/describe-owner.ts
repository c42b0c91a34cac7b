import { threadId } from 'node:worker_threads'
import type { OwnerInfo } from './owner-info.ts'
import { isThisProcess } from './process-identity.ts'

/**
 * A few words about an owner for an error message: `"x" (pid 12, host a) since 10:00:00, doing "y", at 4 of 10 files`,
 * or `this process (pid 12, worker thread 3) since …`.
 */
export function describeOwner(owner: OwnerInfo | undefined): string {
  if (owner === undefined) return 'an owner that could not be identified (perhaps another program)'
  let line = describeProcess(owner)
  if (owner.since !== undefined && owner.since < 8.64e15) line += ` since ${new Date(owner.since).toISOString()}`
  if (owner.purpose !== undefined) line += `, doing ${JSON.stringify(owner.purpose)}`
  if (owner.progress !== undefined) {
    const { done, total, unit } = owner.progress
    line += `, at ${done}${total === undefined ? '' : ` of ${total}`}${unit === undefined ? '' : ` ${unit}`}`
  }
  if (owner.collected) {
    line +=
      '; its lock object was garbage collected while held, so nothing can release it until that process or thread ends'
  }
  // Others may have written the record: nothing in it may control a terminal or reverse the text of a log line.
  return line.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, ' ')
}

function describeProcess(owner: OwnerInfo): string {
  if (isThisProcess(owner)) {
    const where = owner.threadId === undefined ? '' : `, ${describeThread(owner.threadId)}`
    return `this process (pid ${owner.pid}${where})`
  }
  const where = [`pid ${owner.pid}`]
  if (owner.host !== undefined) where.push(`host ${owner.host}`)
  if (owner.threadId !== undefined && owner.threadId !== 0) where.push(`worker thread ${owner.threadId}`)
  if (owner.confirmed === false) where.push('according to its own record')
  return owner.app === undefined
    ? `the process with ${where.join(', ')}`
    : `${JSON.stringify(owner.app)} (${where.join(', ')})`
}

/** A thread of this process. */
function describeThread(id: number): string {
  if (id === threadId) return 'this thread'
  return id === 0 ? 'the main thread' : `worker thread ${id}`
}
