// What a mutex costs on Windows (or under Wine), beside bare Win32 in C under the same system, in one run:
// `node out/bench/mutex-win32.js PEER`, with PEER compiled from bench/peer/mutex_peer_win32.c. `npm run bench:wine` does it all.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterKill, handOffs } from './support/hand-off.ts'
import { LineProcess } from './support/line-process.ts'
import { digits, median, percentile, printTable } from './support/statistics.ts'

const ROUNDS = 9
const PAIRS = 2000
const HAND_OFFS = 30
const KILLS = 15
// Windows does not list who waits: the waiter gets this long to be blocked in the kernel.
const SETTLE_MS = 10
const TARGET = 3

const [peer] = process.argv.slice(2)
if (process.platform !== 'win32' || peer === undefined) throw new Error('usage, on Windows: mutex-win32.js PEER')
const peerProgram = peer
const programData = mkdtempSync(path.join(os.tmpdir(), 'os-mutex-bench-'))
// In the default home a mutex has the name that C knows as well. Children inherit it.
process.env.ProgramData = programData
const directory = path.join(programData, 'os-mutex')
const name = `os-mutex-bench-${process.pid}`
const rows: string[][] = []

function add(what: string, ours: number, bare: number, unit: string, note = ''): void {
  const ratio = ours / bare
  rows.push([
    what,
    `${digits(ours)} ${unit}`,
    `${digits(bare)} ${unit}${note}`,
    digits(ratio),
    ratio <= TARGET ? 'yes' : 'NO',
  ])
}

function peerPair(mode: 'pair' | 'thread'): number {
  return Number(execFileSync(peerProgram, [mode, name, String(PAIRS)], { encoding: 'utf8' }))
}

async function uncontended(): Promise<void> {
  const { NamedMutex } = await import('os-mutex') // after ProgramData is set
  const mutex = new NamedMutex(name)
  const promise: number[] = []
  const sync: number[] = []
  const bare: number[] = []
  const handOver: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    let start = process.hrtime.bigint()
    for (let pair = 0; pair < PAIRS; pair++) (await mutex.acquire()).release()
    promise.push(Number(process.hrtime.bigint() - start) / PAIRS / 1000)
    start = process.hrtime.bigint()
    for (let pair = 0; pair < PAIRS; pair++) mutex.tryAcquire()?.release()
    sync.push(Number(process.hrtime.bigint() - start) / PAIRS / 1000)
    bare.push(peerPair('pair'))
    handOver.push(peerPair('thread'))
  }
  mutex.close()
  const note = `, by an owner thread ${digits(median(handOver))} µs`
  add('acquire() + release()', median(promise), median(bare), 'µs', note)
  add('tryAcquire() + release()', median(sync), median(bare), 'µs', note)
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
}

function ourProcess(mode: 'hold' | 'wait' | 'wait-sync'): LineProcess {
  const program = fileURLToPath(new URL('support/mutex-peer.js', import.meta.url))
  return new LineProcess(process.execPath, [program, mode, name, directory])
}

function bareProcess(mode: 'hold' | 'wait' | 'loop'): LineProcess {
  return new LineProcess(peerProgram, [mode, name])
}

async function handOff(): Promise<void> {
  const ours = ourProcess('hold')
  const bare = bareProcess('hold')
  const pairs = [
    [ours, ourProcess('wait')],
    [ours, ourProcess('wait-sync')],
    [bare, bareProcess('loop')],
    [bare, bareProcess('wait')],
  ] as const
  const times = pairs.map((): number[] => [])
  for (const [holder, waiter] of pairs) await handOffs(holder, waiter, 20, settle) // warm
  for (let round = 0; round < 10; round++) {
    for (const [index, [holder, waiter]] of pairs.entries())
      times[index]?.push(...(await handOffs(holder, waiter, HAND_OFFS, settle)))
  }
  for (const child of new Set(pairs.flat())) await child.kill()
  const [event = [], sync = [], loop = [], thread = []] = times
  const p99 = (list: number[]) => `p99 ${digits(percentile(list, 0.99))} µs`
  const compare = (what: string, list: number[], beside: number[], how: string) =>
    add(`${what} (${p99(list)})`, median(list), median(beside), 'µs', ` ${how} (${p99(beside)})`)
  compare('hand-off: release() to acquire()', event, loop, 'to an event loop')
  compare('hand-off: release() to acquire()', event, thread, 'to a blocked thread')
  compare('hand-off: release() to acquireSync()', sync, thread, 'to a blocked thread')
}

// Behind the same Node owner both times: most of it is the system taking that down.
async function recovery(): Promise<void> {
  const ours: number[] = []
  const bare: number[] = []
  const ourWaiter = ourProcess('wait')
  const bareWaiter = bareProcess('wait')
  for (let round = 0; round < KILLS; round++) {
    ours.push((await afterKill(ourProcess('hold'), ourWaiter, settle)) / 1000)
    bare.push((await afterKill(ourProcess('hold'), bareWaiter, settle)) / 1000)
  }
  await ourWaiter.kill()
  await bareWaiter.kill()
  add('recovery: TerminateProcess of an owner to the next', median(ours), median(bare), 'ms')
}

try {
  console.log(`${os.cpus()[0]?.model} × ${os.cpus().length}, ${os.version()}, Node ${process.versions.node}\n`)
  for (const measure of [uncontended, handOff, recovery]) await measure()
  printTable(['what', 'os-mutex, median', 'bare Win32 in C', 'ratio', `≤ ${TARGET} × C`], rows)
} finally {
  rmSync(programData, { recursive: true, force: true })
}
