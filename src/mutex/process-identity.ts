// What tells one process from every other, also from a later one with the same pid.
import { addon } from './addon.ts'

/** One process on one machine in one boot. */
export interface ProcessIdentity {
  readonly pid: number
  /** Start time in the kernel's own unit. 0: the system does not tell it. */
  readonly processStart: number
  readonly host: string
  /** Changes with every boot of the machine, where start times count from it (Linux). */
  readonly bootId: string
  /** Which processes `pid` counts among: the pid namespace on Linux, else 0. */
  readonly pidSpace: number
}

const self: ProcessIdentity = Object.freeze(addon.processIdentity())

/** The calling process. */
export function currentProcess(): ProcessIdentity {
  return self
}

/** Whether what names a process names the calling one. */
export function isThisProcess(
  named: Partial<ProcessIdentity> & { readonly pid: number; readonly confirmed?: boolean },
): boolean {
  if (named.pid !== self.pid || (named.pidSpace ?? self.pidSpace) !== self.pidSpace) return false
  // The kernel counts pids as this process does. A record alone has to say all that tells one process from a namesake.
  return named.confirmed === true || (named.processStart === self.processStart && named.bootId === self.bootId)
}

/**
 * Whether the process still runs; `undefined` when that can't be told from here (another host, container or user).
 * Unknown is not dead. Not for locking, where the kernel knows better: for what a dead process left lying about.
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
