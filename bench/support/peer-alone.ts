// What the mutex costs where nobody else wants it.
import type { Peer } from '../peers/peer.ts'
import { type Measurement, NAME } from './peer-bench.ts'
import type { Figure, Figures } from './peer-figures.ts'
import { FLOOR } from './peer-list.ts'
import { Party } from './peer-process.ts'

const BATCHES = 5
const BATCH_MS = 100
const LIMIT_MS = 10_000

async function addPairs(figures: Figures, peer: Peer, figure: Figure, ask: () => Promise<string>): Promise<void> {
  await ask() // warm
  for (let batch = 0; batch < BATCHES; batch++) figures.add(peer, figure, Number(await ask()) / 1000)
}

export const pair: Measurement = {
  id: 'pair',
  async run(bench) {
    for (const peer of bench.peers)
      await bench.measure(peer, ['pairUs', 'sixCallsUs'], async () => {
        await using party = await Party.start(peer, bench.room(), NAME)
        await addPairs(bench.figures, peer, 'pairUs', () => party.ask(LIMIT_MS, 'pair', BATCH_MS))
        if (peer === FLOOR)
          await addPairs(bench.figures, peer, 'sixCallsUs', () => party.ask(LIMIT_MS, 'six-calls', BATCH_MS))
      })
  },
}
