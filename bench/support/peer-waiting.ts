// What waiting costs the one who waits.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Peer } from '../peers/peer.ts'
import { type Measurement, NAME, untilWaiting } from './peer-bench.ts'
import type { Pending } from './peer-pool.ts'
import { cpuMs } from './peer-proc.ts'
import { Party } from './peer-process.ts'

const LIMIT_MS = 10_000
const POOL_LIMIT_MS = 30_000
const WAIT_MS = 5000
const PENDING = 64

async function cpuOver(pid: number, ms: number): Promise<number> {
  const before = cpuMs(pid)
  await sleep(ms)
  return cpuMs(pid) - before
}

/** All peers at the same time: the scheduler's count of a process is its own. */
export const waitingCpu: Measurement = {
  id: 'cpu',
  async run(bench) {
    const one = (peer: Peer) =>
      bench.measure(peer, ['waitCpuMs'], async () => {
        const folder = bench.room()
        await using owner = await Party.start(peer, folder, NAME)
        await using waiter = await Party.start(peer, folder, NAME)
        for (const word of ['acquire', 'release']) await waiter.ask(LIMIT_MS, word) // warm
        await owner.ask(LIMIT_MS, 'acquire')
        const idle = await cpuOver(waiter.pid, WAIT_MS)
        waiter.send('acquire')
        await untilWaiting(peer, folder, 1)
        const waiting = await cpuOver(waiter.pid, WAIT_MS)
        bench.figures.add(peer, 'waitCpuMs', Math.max(0, waiting - idle))
      })
    await Promise.all(bench.peers.map(one))
  },
}

export const pool: Measurement = {
  id: 'pool',
  async run(bench) {
    for (const peer of bench.peers)
      await bench.measure(peer, ['delayFreeMs', 'delayWaitingMs', 'threadsEach', 'kibEach', 'statFreeUs'], async () => {
        if (peer.program !== undefined) return
        const folder = bench.room()
        await using owner = await Party.start(peer, folder, NAME)
        await owner.ask(POOL_LIMIT_MS, 'hold', PENDING)
        await using waiter = await Party.start(peer, folder, NAME)
        const { free, waiting, threadsEach, kibEach }: Pending = JSON.parse(
          await waiter.ask(POOL_LIMIT_MS, 'pool', PENDING),
        )
        const { figures } = bench
        if (free.statUs !== null) figures.add(peer, 'statFreeUs', free.statUs)
        if (waiting.statUs === null) figures.miss(peer, ['statWaitingUs'], 'frozen')
        else figures.add(peer, 'statWaitingUs', waiting.statUs)
        figures.add(peer, 'delayFreeMs', free.delayMs)
        figures.add(peer, 'delayWaitingMs', waiting.delayMs)
        figures.add(peer, 'threadsEach', threadsEach)
        figures.add(peer, 'kibEach', kibEach)
      })
  },
}
