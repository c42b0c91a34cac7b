// What distinguishes one process from every other, also from a later one with the same pid.
import { addon } from './addon.ts'

/** One process on one machine in one boot. */
export interface ProcessIdentity {
  readonly pid: number
  /** Start time in the kernel's own unit. 0: the system does not report it. */
  readonly processStart: number
  readonly host: string
  /** Changes with every boot of the machine (Linux, macOS). Constant on Windows, where start times are absolute. */
  readonly bootId: string
  /** The pid namespace that `pid` belongs to (Linux), else 0. */
  readonly pidSpace: number
}

const self: ProcessIdentity = Object.freeze(addon.processIdentity())

/** The calling process. */
export function currentProcess(): ProcessIdentity {
  return self
}

/** Whether `named` is the calling process. */
export function isThisProcess(
  named: Partial<ProcessIdentity> & { readonly pid: number; readonly confirmed?: boolean },
): boolean {
  if (named.pid !== self.pid || (named.pidSpace ?? self.pidSpace) !== self.pidSpace) return false
  // Confirmed by the kernel, the pid is enough. A record alone must also match in start time and boot.
  return named.confirmed === true || (named.processStart === self.processStart && named.bootId === self.bootId)
}

/**
 * Whether the process still runs; `undefined` when that can't be told from here (another host, container or user).
 * Unknown is not dead. Not for locking, where the kernel knows better: for what a dead process left behind.
 */
export function isRunning(
  identity: Omit<ProcessIdentity, 'pidSpace'> & { readonly pidSpace?: number },
): boolean | undefined {
  if (identity.host !== self.host) return undefined
  if (identity.bootId !== self.bootId) return false
  if (identity.pidSpace !== undefined && identity.pidSpace !== self.pidSpace) return undefined
  const start = addon.processStart(identity.pid)
  if (start === 0) return false
  return start === undefined || identity.processStart === 0 ? undefined : start === identity.processStart
}
