// What a process has of the system's: to see that nothing is left behind.
import { readdirSync, readFileSync } from 'node:fs'
import { countsOf } from './win32/foreign.ts'

/** Options of a test that counts them. */
export const ifCountable =
  process.platform === 'linux' || process.platform === 'win32'
    ? {}
    : { skip: 'macOS has no /proc to count descriptors and threads by' }

export interface Resources {
  /** Descriptors, or handles. */
  readonly handles: number
  /** On Linux the addon's own: runtimes start and end theirs as they like. */
  readonly threads: number
}

export function resourcesOf(pid: number): Resources {
  if (process.platform === 'win32') return countsOf(pid)
  const threads = readdirSync(`/proc/${pid}/task`).filter((id) => nameOf(`/proc/${pid}/task/${id}/comm`) === 'os-mutex')
  return { handles: readdirSync(`/proc/${pid}/fd`).length, threads: threads.length }
}

function nameOf(file: string): string {
  try {
    return readFileSync(file, 'latin1').trim()
  } catch {
    return '' // it has ended in the meantime
  }
}

export function resources(): Resources {
  return resourcesOf(process.pid)
}

/** On Windows, Node and the system's libraries open handles of their own as they go, and Deno a pair of sockets. Far fewer than a leak shows. */
export const spareHandles = process.platform === 'win32' ? 20 : 'Deno' in globalThis ? 2 : 0
