// The kernel's word on who has a lock file and who stands in line for it: proof that a waiter is blocked, without sleeping.
import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'

/** Pids, one for each lock and each request. */
export interface KernelQueue {
  readonly owners: readonly number[]
  readonly waiters: readonly number[]
}

/** Only Linux tells: by /proc/locks. Elsewhere what needs it is skipped. */
export const kernelTells = process.platform === 'linux'
export const unlessKernelTells = kernelTells ? {} : { skip: 'only /proc/locks (Linux) shows the queue of a lock' }

/** Who has a flock on the file at `path`, and who waits for one. */
export function kernelQueue(path: string): KernelQueue {
  // A long list comes in several reads, between which it may change. Then a line can be missing, or come twice.
  for (let before = readQueue(path); ; ) {
    const now = readQueue(path)
    if (isDeepStrictEqual(now, before)) return now
    before = now
  }
}

/** One read is one moment; but the next one, even only for the end of the file, goes on by line number in a list that may have grown. */
function readLocks(): string {
  const file = openSync('/proc/locks', 'r')
  try {
    const page = Buffer.alloc(4096)
    let text = ''
    for (let count = -1; count !== 0; ) {
      count = readSync(file, page)
      text += page.toString('latin1', 0, count)
      if (count < page.length - 200) break // no line is that long: there are no more
    }
    return text
  } finally {
    closeSync(file)
  }
}

function readQueue(path: string): KernelQueue {
  const owners: number[] = []
  const waiters: number[] = []
  const inode = statSync(path).ino
  // "1: FLOCK  ADVISORY  WRITE 4711 fe:00:131090 0 EOF". "1: -> FLOCK …" is a request blocked by it, "1:  -> FLOCK …" one behind that.
  for (const line of readLocks().split('\n')) {
    const found = /^\d+: *(-> )?FLOCK +\w+ +\w+ +(\d+) \w+:\w+:(\d+) /.exec(line)
    if (found === null || Number(found[3]) !== inode) continue
    const pids = found[1] === undefined ? owners : waiters
    pids.push(Number(found[2]))
  }
  return { owners, waiters }
}

/** Resolves when `condition` holds; for states that nobody announces. Rejects after 20 s. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const startedAt = performance.now()
  while (!(await condition())) {
    if (performance.now() - startedAt > 20_000) throw new Error(`Waited in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

/** Resolves when each of `pids` stands in the kernel's line for the lock file, blocked (and as often as it is named). */
export async function untilQueued(path: string, ...pids: number[]): Promise<void> {
  const times = (pid: number, list: readonly number[]) => list.filter((other) => other === pid).length
  await until(`${pids} wait for ${path}`, () => {
    const { waiters } = kernelQueue(path)
    return pids.every((pid) => times(pid, waiters) >= times(pid, pids))
  })
}

/** The addon's own threads in this process. */
export function waiterThreads(): number {
  return readdirSync('/proc/self/task').filter((id) => commandOf(id) === 'os-mutex').length
}

function commandOf(thread: string): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/comm`, 'latin1').trim()
  } catch {
    return '' // it has ended in the meantime
  }
}

const still = Symbol('still waiting')

/**
 * Proves that the acquire is blocked, by the kernel's word where it gives one: `pid` stands in line at `path`, and the
 * acquire has not ended.
 */
export async function mustBlock(acquire: Promise<unknown>, path: string, pid: number): Promise<void> {
  if (kernelTells) await untilQueued(path, pid)
  const first = await Promise.race([
    acquire.then(
      () => 'ended',
      () => 'failed',
    ),
    turn().then(() => still),
  ])
  if (first !== still) throw new Error(`The acquire should be blocked, but it ${String(first)}`)
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
