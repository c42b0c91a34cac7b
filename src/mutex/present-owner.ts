// Who holds a mutex now. The kernel's word comes first: anybody who may lock may also write into the record.
import { addon } from './addon.ts'
import { type OwnerInfo, parseOwnerRecord } from './owner-info.ts'
import { currentProcess, isRunning } from './process-identity.ts'

/** What the addon saw of a mutex that is held. */
export interface SeenOwner {
  /** The record bears the mark of an owner that has not released. */
  readonly recordIsOwners: boolean
  /** JSON, or anything else. */
  readonly record: string
  /** By the kernel's word, in this process's pid namespace. 0: it names nobody. */
  readonly kernelPid: number
}

/** The owner, as far as it can be told. `undefined`: the mutex is held, and nobody says by whom. */
export function presentOwner({ recordIsOwners, record, kernelPid }: SeenOwner): OwnerInfo | undefined {
  const recorded = recordIsOwners ? parseOwnerRecord(record) : undefined
  return kernelPid === 0 ? ofRecord(recorded) : ofKernel(kernelPid, recorded)
}

/**
 * Nobody but the record names the owner. A dead one has left it behind, and somebody without a record holds the mutex
 * now.
 */
function ofRecord(recorded: OwnerInfo | undefined): OwnerInfo | undefined {
  if (recorded === undefined) return undefined
  const { host, bootId, processStart } = recorded
  if (host !== undefined && bootId !== undefined && processStart !== undefined) {
    if (isRunning({ ...recorded, host, bootId, processStart }) === false) return undefined
  }
  return { ...recorded, confirmed: false }
}

/** The pid is the kernel's. The record's words are the owner's if the record names that very process. */
function ofKernel(kernelPid: number, recorded: OwnerInfo | undefined): OwnerInfo {
  const self = currentProcess()
  const behind = kernelPid === self.pid ? self : addon.processBehind(kernelPid)
  // The process that took the lock has ended. A program that it started, and that has the file open, keeps it.
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
 * Whether the record names another process than the one that the kernel calls `kernelPid`. What is not known
 * contradicts nothing.
 */
function contradicts(
  recorded: OwnerInfo,
  kernelPid: number,
  behind: { readonly pid?: number; readonly processStart?: number; readonly pidSpace?: number },
): boolean {
  const self = currentProcess()
  // How a process in this very pid namespace identifies itself, whether or not more of it is told.
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
