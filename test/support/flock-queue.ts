// Linux: /proc/locks.
import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import type { KernelQueue } from './kernel-queue.ts'

/** Who has a flock on the file at `path`, and who waits for one. */
export function flockQueue(path: string): KernelQueue {
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
