import type { NativeMutex } from './addon.ts'
import { type OwnerInfo, parseOwnerRecord } from './owner-info.ts'
import { currentProcess, isRunning } from './process-identity.ts'

/** Whether a record marked as held is the present owner's, and not one that a dead owner left under a foreign one. */
function isOfOwner(record: OwnerInfo, kernelPid: number): boolean {
  const { host, bootId, processStart, pidSpace } = record
  const countsPidsAsWeDo = pidSpace === undefined || pidSpace === currentProcess().pidSpace
  if (kernelPid !== 0 && countsPidsAsWeDo) return record.pid === kernelPid
  if (host === undefined || bootId === undefined || processStart === undefined) return true
  return isRunning({ ...record, host, bootId, processStart }) !== false
}

/** Who holds a mutex, from what the addon saw of it. */
export function presentOwner(seen: ReturnType<NativeMutex['query']>): OwnerInfo | undefined {
  const record = seen.recordIsOwners ? parseOwnerRecord(seen.record) : undefined
  if (record !== undefined && isOfOwner(record, seen.kernelPid)) return record
  return seen.kernelPid === 0 ? undefined : { pid: seen.kernelPid }
}
