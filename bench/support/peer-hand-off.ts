// From one owner to the next: by a release, with more and more who wait, and by the owner's death.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Peer } from '../peers/peer.ts'
import { type Bench, type Measurement, NAME, untilWaiting } from './peer-bench.ts'
import { SIZES } from './peer-figures.ts'
import { killAll, Party } from './peer-process.ts'

const HAND_OFFS = 100
const KILLS = 10
/** For one peer at one size in one round: who needs longer gives fewer samples. */
const BUDGET_MS = 3000
const LIMIT_MS = 20_000

/** Stamps in ns of the monotonic clock, and the pids of the two. */
export interface HandOff {
  readonly from: number
  readonly to: number
  readonly released: number
  readonly acquired: number
}

interface Turns {
  readonly handOffs: readonly HandOff[]
  /** Turns that began before another had ended. */
  readonly overlaps: number
}

/** All but the first wait, the first releases, and each hands on to the next until all have had their turn. */
export async function handOn(peer: Peer, folder: string, [first, ...others]: readonly Party[]): Promise<Turns> {
  if (first === undefined) return { handOffs: [], overlaps: 0 }
  await first.ask(LIMIT_MS, 'acquire')
  const answerAfterMs = others.length === 1 ? 0 : 5 + others.length / 2
  const begin = async (party: Party) => {
    // Pollers that all began at once would all look at the same moments.
    if (peer.pollMs !== undefined) await sleep(Math.random() * peer.pollMs)
    await party.ask(LIMIT_MS, 'turn', answerAfterMs)
  }
  await Promise.all(others.map(begin))
  await untilWaiting(peer, folder, others.length)
  let released = Number(await first.ask(LIMIT_MS, 'release'))
  const turn = async (party: Party) => {
    const [acquired = 0, end = 0] = (await party.next(LIMIT_MS)).split(' ').map(Number)
    return { acquired, end, by: party.pid }
  }
  const turns = (await Promise.all(others.map(turn))).sort((a, b) => a.acquired - b.acquired)
  const handOffs: HandOff[] = []
  let from = first.pid
  let overlaps = 0
  for (const { acquired, end, by } of turns) {
    if (acquired < released) overlaps++
    else handOffs.push({ from, to: by, released, acquired })
    from = by
    released = Math.max(released, end)
  }
  return { handOffs, overlaps }
}

async function handOffs(bench: Bench, peer: Peer): Promise<void> {
  const folder = bench.room()
  const parties: Party[] = []
  try {
    for (const size of SIZES) {
      const figure = `handOffUs${size}` as const
      await bench.measure(peer, [figure], async () => {
        parties.push(...(await Party.startAll(size - parties.length, peer, folder, NAME)))
        await handOn(peer, folder, parties) // warm
        const end = performance.now() + BUDGET_MS
        let count = 0
        do {
          const { handOffs, overlaps } = await handOn(peer, folder, parties)
          bench.figures.add(peer, figure, ...handOffs.map(({ released, acquired }) => (acquired - released) / 1000))
          bench.figures.add(peer, 'overlaps', overlaps)
          count += handOffs.length
        } while (count < HAND_OFFS && performance.now() < end)
      })
      const missing = bench.figures.missing(peer, figure)
      if (missing === undefined) continue
      // Those who are left would be worse.
      const larger = SIZES.filter((one) => one > size).map((one) => `handOffUs${one}` as const)
      bench.figures.miss(peer, larger, `not tried: see ${size}`)
      return
    }
  } finally {
    await killAll(parties)
  }
}

export const handOff: Measurement = {
  id: 'hand-off',
  async run(bench) {
    for (const peer of bench.peers) await handOffs(bench, peer)
  },
}

export const recovery: Measurement = {
  id: 'recovery',
  async run(bench) {
    for (const peer of bench.peers)
      await bench.measure(peer, ['recoveryMs'], async () => {
        const folder = bench.room()
        await using waiter = await Party.start(peer, folder, NAME)
        const end = performance.now() + BUDGET_MS
        let kills = 0
        do {
          await using owner = await Party.start(peer, folder, NAME)
          await owner.ask(LIMIT_MS, 'acquire')
          waiter.send('acquire')
          await untilWaiting(peer, folder, 1)
          const killed = await owner.kill()
          bench.figures.add(peer, 'recoveryMs', (Number(await waiter.next(LIMIT_MS)) - killed) / 1e6)
          await waiter.ask(LIMIT_MS, 'release')
          kills++
        } while (kills < KILLS && performance.now() < end)
      })
  },
}
