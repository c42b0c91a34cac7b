// What many pending acquires do to the process that waits: to libuv's pool, to the event loop, to threads and memory.
import { stat } from 'node:fs/promises'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PeerMutex } from '../peers/peer.ts'
import { footprint } from './peer-proc.ts'
import { median } from './statistics.ts'

const STATS = 200
const STAT_LIMIT_MS = 2000
const SETTLE_MS = 1000

interface Responsiveness {
  /** The median of fs.stat in µs, or null where one did not end within the limit. */
  readonly statUs: number | null
  /** The longest delay of the event loop. */
  readonly delayMs: number
}

export interface Pending {
  readonly free: Responsiveness
  readonly waiting: Responsiveness
  readonly threadsEach: number
  readonly kibEach: number
}

export const STAT_LIMIT = `${STAT_LIMIT_MS / 1000} s`

async function statLatency(folder: string): Promise<number | null> {
  const times: number[] = []
  const limit = sleep(STAT_LIMIT_MS, 'late' as const)
  for (let call = 0; call < STATS; call++) {
    const start = process.hrtime.bigint()
    const first = await Promise.race([stat(folder), limit])
    if (first === 'late') return null
    times.push(Number(process.hrtime.bigint() - start) / 1000)
  }
  return median(times)
}

async function responsiveness(folder: string): Promise<Responsiveness> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  const statUs = await statLatency(folder)
  await sleep(SETTLE_MS)
  delay.disable()
  return { statUs, delayMs: delay.max / 1e6 }
}

/** Waits for all of them, which others own. The process is of no use after that: it is for the parent to kill. */
export async function pendingWaiters(mutexes: readonly PeerMutex[], folder: string): Promise<Pending> {
  const free = await responsiveness(folder)
  const before = footprint()
  for (const mutex of mutexes) void mutex.acquire()
  await sleep(SETTLE_MS)
  const during = footprint()
  const waiting = await responsiveness(folder)
  return {
    free,
    waiting,
    threadsEach: (during.threads - before.threads) / mutexes.length,
    // Less than nothing is what a collection of the heap gave back.
    kibEach: Math.max(0, during.kib - before.kib) / mutexes.length,
  }
}
