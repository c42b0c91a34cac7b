// `npm run bench`: the mutex beside its peers, in one run on one machine. Linux.
//
//   npm run bench                                                the report, into bench/results
//   npm run bench -- --rounds=1 --only=pair,hand-off --peers=os-mutex,fs-ext    a try, into out/bench/results
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { pair } from './support/peer-alone.ts'
import { Bench, type Measurement } from './support/peer-bench.ts'
import { blockedOwner, fairness } from './support/peer-exclusion.ts'
import { Figures } from './support/peer-figures.ts'
import { handOff, recovery } from './support/peer-hand-off.ts'
import { PEERS, peerNamed } from './support/peer-list.ts'
import { describeMachine } from './support/peer-machine.ts'
import { requireLockWithin } from './support/peer-place.ts'
import { svg } from './support/peer-plot.ts'
import { markdown, type Notes, type Run } from './support/peer-report.ts'
import { steps } from './support/peer-steps.ts'
import { pool, waitingCpu } from './support/peer-waiting.ts'

const ROUNDS = 5
const MEASUREMENTS: readonly Measurement[] = [pair, handOff, steps, fairness, recovery, waitingCpu, pool, blockedOwner]

const checkout = fileURLToPath(new URL('../..', import.meta.url))
const { values: options } = parseArgs({
  options: { rounds: { type: 'string' }, only: { type: 'string' }, peers: { type: 'string' } },
})
const isWhole = Object.keys(options).length === 0
const rounds = Number(options.rounds ?? ROUNDS)
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds=${options.rounds}: a number from 1 on`)
const peers = options.peers === undefined ? PEERS : options.peers.split(',').map(peerNamed)
const measurements = options.only === undefined ? MEASUREMENTS : options.only.split(',').map(measurementNamed)

function measurementNamed(id: string): Measurement {
  const measurement = MEASUREMENTS.find((one) => one.id === id)
  if (measurement === undefined)
    throw new Error(`No measurement is named "${id}": ${MEASUREMENTS.map((one) => one.id).join(', ')}`)
  return measurement
}

function compilePrograms(): void {
  for (const { program } of peers)
    if (program !== undefined)
      execFileSync('cc', ['-O2', '-o', path.join(folder, program), path.join(checkout, `bench/peers/${program}.c`)])
}

async function measureAll(bench: Bench): Promise<void> {
  for (let round = 1; round <= rounds; round++)
    for (const measurement of measurements) {
      if (measurement.once && round > 1) continue
      console.log(`round ${round} of ${rounds}: ${measurement.id}`)
      await measurement.run(bench)
    }
}

function write(figures: Figures, run: Run): void {
  const kept = path.join(checkout, 'bench/results')
  const results = isWhole ? kept : path.join(checkout, 'out/bench/results')
  const notes: Notes = JSON.parse(readFileSync(path.join(kept, 'notes.json'), 'utf8'))
  const report = markdown(figures, peers, run, notes)
  mkdirSync(results, { recursive: true })
  writeFileSync(path.join(results, 'mutex.md'), report)
  writeFileSync(path.join(results, 'mutex.json'), `${JSON.stringify({ ...run, figures })}\n`)
  if (measurements.includes(handOff)) writeFileSync(path.join(results, 'mutex.svg'), svg(figures, peers))
  console.log(`\n${report}\nwritten to ${results}`)
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'os-mutex-bench-'))
// On exit, since a signal ends the program in the middle of a measurement. The parties are killed by a handler that came before this one.
process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }))
process.once('SIGINT', () => process.exit(130))
process.once('SIGTERM', () => process.exit(143))

compilePrograms()
const begin = performance.now()
const loadBefore = os.loadavg()
const figures = new Figures()
const bench = new Bench(peers, figures, folder)
for (const peer of peers) await requireLockWithin(bench.room(), peer)
await measureAll(bench)
write(figures, {
  command: ['npm run bench', ...(isWhole ? [] : ['--', ...process.argv.slice(2)])].join(' '),
  date: new Date().toISOString().slice(0, 10),
  rounds,
  minutes: (performance.now() - begin) / 60_000,
  loadBefore,
  loadAfter: os.loadavg(),
  machine: describeMachine(peers, folder),
})
