// Whether there is one owner at a time, and whether everybody gets to be it.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { type Measurement, NAME, untilWaiting } from './peer-bench.ts'
import { killAll, Party, Unmeasured } from './peer-process.ts'

const PROCESSES = 8
const LOOP_MS = 2000
const LOOP_LIMIT_MS = 20_000
const LIMIT_MS = 10_000
/** Longer than proper-lockfile's `stale`, and than its next look. */
const BLOCK_MS = 13_000

/** How many turns began before another had ended. Each run holds the begin and end of one process's turns, in their order. */
function countOverlaps(runs: readonly Float64Array[]): number {
  const next = runs.map(() => 0)
  let latestEnd = 0
  let overlaps = 0
  for (;;) {
    let first = -1
    let begin = Number.POSITIVE_INFINITY
    for (const [index, run] of runs.entries()) {
      const candidate = run[next[index] ?? 0] ?? Number.POSITIVE_INFINITY
      if (candidate < begin) [first, begin] = [index, candidate]
    }
    const run = runs[first]
    const at = next[first]
    if (run === undefined || at === undefined) return overlaps
    if (begin < latestEnd) overlaps++
    latestEnd = Math.max(latestEnd, run[at + 1] ?? 0)
    next[first] = at + 2
  }
}

function readStamps(folder: string): Float64Array[] {
  const files = readdirSync(folder).filter((name) => name.startsWith('stamps-'))
  // Copied: a view of the buffer might not begin at a multiple of 8.
  return files.map((name) => new Float64Array(Uint8Array.from(readFileSync(path.join(folder, name))).buffer))
}

export const fairness: Measurement = {
  id: 'fairness',
  async run(bench) {
    for (const peer of bench.peers)
      await bench.measure(peer, ['leastShare', 'greatestShare', 'turnsPerSecond', 'lostUpdates'], async () => {
        const folder = bench.room()
        const counter = path.join(folder, 'counter')
        writeFileSync(counter, new Uint8Array(8))
        const parties = await Party.startAll(PROCESSES, peer, folder, NAME)
        try {
          const start = Number(process.hrtime.bigint()) + 100e6
          for (const party of parties) party.send('loop', start, start + LOOP_MS * 1e6)
          const counts = await Promise.all(parties.map(async (party) => Number(await party.next(LOOP_LIMIT_MS))))
          const total = counts.reduce((sum, count) => sum + count, 0)
          bench.figures.add(peer, 'leastShare', Math.min(...counts) / total)
          bench.figures.add(peer, 'greatestShare', Math.max(...counts) / total)
          bench.figures.add(peer, 'turnsPerSecond', (total / LOOP_MS) * 1000)
          bench.figures.add(peer, 'lostUpdates', total - readFileSync(counter).readDoubleLE())
          bench.figures.add(peer, 'overlaps', countOverlaps(readStamps(folder)))
        } finally {
          await killAll(parties)
        }
      })
  },
}

/** The owner's event loop does nothing for a while, as in a long computation. Whoever owns the mutex meanwhile is the second owner. */
export const blockedOwner: Measurement = {
  id: 'blocked-owner',
  once: true,
  async run(bench) {
    const one = (peer: (typeof bench.peers)[number]) =>
      bench.measure(peer, ['keptMs', 'lostAfterMs'], async () => {
        const folder = bench.room()
        await using owner = await Party.start(peer, folder, NAME)
        await using waiter = await Party.start(peer, folder, NAME)
        const acquired = Number(await owner.ask(LIMIT_MS, 'acquire'))
        waiter.send('acquire')
        await untilWaiting(peer, folder, 1)
        owner.send('block', BLOCK_MS)
        try {
          // Judged a little before the owner is back.
          const second = Number(await waiter.next(BLOCK_MS - 500))
          bench.figures.add(peer, 'lostAfterMs', (second - acquired) / 1e6)
        } catch (error) {
          if (!(error instanceof Unmeasured)) throw error
          bench.figures.add(peer, 'keptMs', BLOCK_MS)
        }
      })
    await Promise.all(bench.peers.map(one))
  },
}
