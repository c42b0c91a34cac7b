// Where the time of a hand-off goes, by the kernel's account.
import type { Peer } from '../peers/peer.ts'
import { type Call, traced } from './kernel-trace.ts'
import { type Bench, type Measurement, NAME } from './peer-bench.ts'
import { type Figures, STEPS } from './peer-figures.ts'
import { type HandOff, handOn } from './peer-hand-off.ts'
import { killAll, Party } from './peer-process.ts'

const SIZE = 8
const CHAINS = 40

/** When each step of a hand-off ended; none where the trace does not tell all of them. */
function endsOf({ from, to, released, acquired }: HandOff, calls: readonly Call[]): readonly number[] | undefined {
  // The trace's clock is cut off to microseconds.
  const during = calls.filter(({ at }) => at >= released - 1000 && at <= acquired)
  const isLock = ({ name }: Call) => name === 'flock' || name === 'fcntl'
  const unlock = during.find((call) => call.thread === from && isLock(call) && !call.isReturn)
  const woken = during.find(
    (call) =>
      call.process === to && call.thread !== to && isLock(call) && call.isReturn && call.at >= (unlock?.at ?? 0),
  )
  const ring = during.find(
    (call) => call.thread === woken?.thread && call.name === 'write' && !call.isReturn && call.at >= woken.at,
  )
  const loop = during.find(
    (call) => call.thread === to && call.name.startsWith('epoll') && call.isReturn && call.at >= (ring?.at ?? 0),
  )
  if (unlock === undefined || woken === undefined || ring === undefined || loop === undefined) return undefined
  return [unlock.at, woken.at, ring.at, loop.at, acquired]
}

function addSteps(figures: Figures, peer: Peer, handOffs: readonly HandOff[], calls: readonly Call[]): void {
  for (const handOff of handOffs) {
    const ends = endsOf(handOff, calls)
    if (ends === undefined) continue
    let begin = handOff.released
    STEPS.forEach((step, index) => {
      const end = ends[index] ?? begin
      figures.add(peer, `${step}Us`, Math.max(0, end - begin) / 1000)
      begin = end
    })
  }
}

async function stepsOf(bench: Bench, peer: Peer): Promise<void> {
  await bench.measure(
    peer,
    STEPS.map((step) => `${step}Us` as const),
    async () => {
      const folder = bench.room()
      const parties = await Party.startAll(SIZE, peer, folder, NAME)
      try {
        await handOn(peer, folder, parties) // warm
        for (let chain = 0; chain < CHAINS; chain++) {
          let handOffs: readonly HandOff[] = []
          const calls = await traced(async () => {
            handOffs = (await handOn(peer, folder, parties)).handOffs
          })
          addSteps(bench.figures, peer, handOffs, calls)
        }
      } finally {
        await killAll(parties)
      }
    },
  )
}

/** Those whose waiters sleep in the kernel, on a thread beside the event loop. */
export function hasSteps(peer: Peer): boolean {
  return peer.pollMs === undefined && peer.program === undefined && peer.name !== 'flock(1)'
}

export const steps: Measurement = {
  id: 'steps',
  async run(bench) {
    for (const peer of bench.peers.filter(hasSteps)) await stepsOf(bench, peer)
  },
}
