// Who holds a mutex now. The kernel is believed before the record: anybody who may lock may also write the record.
import { addon } from './addon.ts'
import { type OwnerInfo, parseOwnerRecord } from './owner-info.ts'
import { currentProcess, isRunning } from './process-identity.ts'

/** What the addon saw of a mutex that is held. */
export interface SeenOwner {
  /** The record bears the mark of an owner that has not released. */
  readonly recordIsOwners: boolean
  /** JSON, or anything else. */
  readonly record: string
  /** The owner as the kernel reports it, in this process's pid namespace. 0: the kernel names nobody. */
  readonly kernelPid: number
}

/** The owner, as far as it is known. `undefined`: the mutex is held by an unknown owner. */
export function presentOwner({ recordIsOwners, record, kernelPid }: SeenOwner): OwnerInfo | undefined {
  const recorded = recordIsOwners ? parseOwnerRecord(record) : undefined
  return kernelPid === 0 ? ofRecord(recorded) : ofKernel(kernelPid, recorded)
}

/**
 * Only the record names an owner. If that process is dead, it left the record behind, and somebody without a record
 * holds the mutex now.
 */
function ofRecord(recorded: OwnerInfo | undefined): OwnerInfo | undefined {
  if (recorded === undefined) return undefined
  const { host, bootId, processStart } = recorded
  if (host !== undefined && bootId !== undefined && processStart !== undefined) {
    if (isRunning({ ...recorded, host, bootId, processStart }) === false) return undefined
  }
  return { ...recorded, confirmed: false }
}

/** The pid comes from the kernel. The rest of the record counts only if the record names that same process. */
function ofKernel(kernelPid: number, recorded: OwnerInfo | undefined): OwnerInfo {
  const self = currentProcess()
  const behind = kernelPid === self.pid ? self : addon.processBehind(kernelPid)
  // The process that took the lock has ended. A program that it started still has the file open, and so keeps the lock.
  if (behind === undefined) return { pid: kernelPid, confirmed: false }
  if (recorded === undefined || contradicts(recorded, kernelPid, behind)) return { pid: kernelPid, confirmed: true }
  const isSame = behind.pid === recorded.pid && behind.processStart === recorded.processStart
  return {
    ...recorded,
    pid: kernelPid,
    pidSpace: self.pidSpace,
    confirmed: isSame && behind.processStart !== undefined,
  }
}

/**
 * Whether the record names another process than the one that the kernel calls `kernelPid`. Unknown fields contradict
 * nothing.
 */
function contradicts(
  recorded: OwnerInfo,
  kernelPid: number,
  behind: { readonly pid?: number; readonly processStart?: number; readonly pidSpace?: number },
): boolean {
  const self = currentProcess()
  // A process in this same pid namespace has the same pid for itself, even if the system reports nothing more of it.
  const pid = behind.pid ?? (recorded.pidSpace === self.pidSpace ? kernelPid : undefined)
  return (
    differ(recorded.pid, pid) ||
    differ(recorded.processStart, behind.processStart) ||
    differ(recorded.pidSpace, behind.pidSpace) ||
    differ(recorded.bootId, self.bootId)
  )
}

function differ<T>(a: T | undefined, b: T | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b
}
