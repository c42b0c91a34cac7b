// What Linux says about processes and locks.
import { readdirSync, readFileSync, statSync } from 'node:fs'

/** How many requests for a lock of the file are queued in the kernel. */
export function queuedRequests(file: string): number {
  const inode = `:${statSync(file).ino} `
  const lines = readFileSync('/proc/locks', 'utf8').split('\n')
  return lines.filter((line) => line.includes('->') && line.includes(inode)).length
}

function threadsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((id) => `/proc/${pid}/task/${id}`)
}

/** The process and all that it has started. */
function familyOf(pid: number): number[] {
  const children = threadsOf(pid).flatMap((thread) => readFileSync(`${thread}/children`, 'utf8').trim().split(' '))
  return [pid, ...children.filter((child) => child !== '').flatMap((child) => familyOf(Number(child)))]
}

/** The time that the process and its children have run, in ms: the scheduler's own count, in nanoseconds. */
export function cpuMs(pid: number): number {
  const runs = familyOf(pid)
    .flatMap(threadsOf)
    .map((thread) => Number(readFileSync(`${thread}/schedstat`, 'utf8').split(' ')[0]))
  return runs.reduce((sum, ns) => sum + ns, 0) / 1e6
}

export interface Footprint {
  readonly threads: number
  /** Each shared page is counted in parts (PSS). */
  readonly kib: number
}

/** Of this process and its children. */
export function footprint(): Footprint {
  // Several times: what one collection finds dead, the next gives back.
  for (let round = 0; round < 4; round++) globalThis.gc?.()
  const family = familyOf(process.pid)
  const kib = family.map((pid) => Number(/^Pss: +(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]))
  return { threads: family.flatMap(threadsOf).length, kib: kib.reduce((sum, one) => sum + one, 0) }
}
