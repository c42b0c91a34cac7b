// What the mutex costs where nobody else wants it.
import { type Measurement, NAME } from './peer-bench.ts'
import { Party } from './peer-process.ts'

const BATCHES = 5
const BATCH_MS = 100
const LIMIT_MS = 10_000

export const pair: Measurement = {
  id: 'pair',
  async run(bench) {
    for (const peer of bench.peers)
      await bench.measure(peer, ['pairUs'], async () => {
        await using party = await Party.start(peer, bench.room(), NAME)
        await party.ask(LIMIT_MS, 'pair', BATCH_MS) // warm
        for (let batch = 0; batch < BATCHES; batch++)
          bench.figures.add(peer, 'pairUs', Number(await party.ask(LIMIT_MS, 'pair', BATCH_MS)) / 1000)
      })
  },
}
