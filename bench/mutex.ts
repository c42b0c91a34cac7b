// `npm run bench:mutex`: what a mutex costs, beside bare flock(2) in C on the same file, in one run. Linux.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type MutexLock, NamedMutex } from 'os-mutex'
import { afterKill, handOffs, type UntilBlocked } from './support/hand-off.ts'
import { LineProcess } from './support/line-process.ts'
import { digits, median, percentile, printTable } from './support/statistics.ts'

const ROUNDS = 15
const PAIRS = 20_000
const HAND_OFFS = 400
const KILLS = 25
const WAIT_SECONDS = 5
const PENDING = 64

const directory = mkdtempSync(path.join(os.tmpdir(), 'os-mutex-bench-'))
const peer = path.join(directory, 'flock_peer')
const rows: string[][] = []

function add(what: string, ours: string, beside: string, target: string, met: boolean): void {
  rows.push([what, ours, beside, target, met ? 'yes' : 'NO'])
}

function perPair(rounds: number, pair: () => void): number {
  const start = process.hrtime.bigint()
  for (let round = 0; round < rounds; round++) pair()
  return Number(process.hrtime.bigint() - start) / rounds / 1000
}

async function uncontended(): Promise<void> {
  const mutex = new NamedMutex('Global\\pair', { directory })
  const promise: number[] = []
  const sync: number[] = []
  const bare: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint()
    for (let pair = 0; pair < PAIRS; pair++) (await mutex.acquire()).release()
    promise.push(Number(process.hrtime.bigint() - start) / PAIRS / 1000)
    sync.push(perPair(PAIRS, () => mutex.tryAcquire()?.release()))
    bare.push(Number(execFileSync(peer, ['pair', mutex.path, String(PAIRS)])) / 1000)
  }
  const c = `C ${digits(median(bare))} µs`
  add('acquire() + release()', `${digits(median(promise))} µs`, c, '≤ 6 µs', median(promise) <= 6)
  add('tryAcquire() + release()', `${digits(median(sync))} µs`, c, '≤ 3 µs', median(sync) <= 3)
}

/** Until the process is blocked in the kernel on the file: the kernel's list of locks says so. */
async function untilQueued(pid: number, file: string): Promise<void> {
  const inode = `:${statSync(file).ino} `
  for (;;) {
    const lines = readFileSync('/proc/locks', 'utf8').split('\n')
    if (lines.some((line) => line.includes('->') && line.includes(` ${pid} `) && line.includes(inode))) return
    await new Promise((resolve) => setImmediate(resolve))
  }
}

function ourProcess(mode: string, name: string): LineProcess {
  return new LineProcess(process.execPath, [
    fileURLToPath(new URL('support/mutex-peer.js', import.meta.url)),
    mode,
    name,
    directory,
  ])
}

async function handOff(): Promise<void> {
  const file = new NamedMutex('Global\\hand-off', { directory }).path
  const ours = [ourProcess('hold', 'Global\\hand-off'), ourProcess('wait', 'Global\\hand-off')] as const
  const bare = [new LineProcess(peer, ['hold', file]), new LineProcess(peer, ['wait', file])] as const
  const oursTimes: number[] = []
  const bareTimes: number[] = []
  const queued: UntilBlocked = ({ pid }) => untilQueued(pid, file)
  await handOffs(...ours, 20, queued) // warm
  for (let round = 0; round < 10; round++) {
    oursTimes.push(...(await handOffs(...ours, HAND_OFFS / 10, queued)))
    bareTimes.push(...(await handOffs(...bare, HAND_OFFS / 10, queued)))
  }
  for (const child of [...ours, ...bare]) await child.kill()
  const ratio = median(oursTimes) / median(bareTimes)
  add(
    "hand-off: release() to the next owner's JavaScript",
    `${digits(median(oursTimes))} µs (p99 ${digits(percentile(oursTimes, 0.99))})`,
    `C ${digits(median(bareTimes))} µs (p99 ${digits(percentile(bareTimes, 0.99))}), ratio ${digits(ratio)}`,
    '≤ 50 µs, ≤ 4 × C',
    median(oursTimes) <= 50 && ratio <= 4,
  )
}

// What the kernel needs to take down a Node process is in all of these, so bare C waits behind a Node owner as well.
async function recovery(): Promise<void> {
  const file = new NamedMutex('Global\\recovery', { directory }).path
  const queued: UntilBlocked = ({ pid }) => untilQueued(pid, file)
  const nodeOwner = () => ourProcess('hold', 'Global\\recovery')
  const ourWaiter = ourProcess('wait', 'Global\\recovery')
  const bareWaiter = new LineProcess(peer, ['wait', file])
  const ours: number[] = []
  const bare: number[] = []
  const bareOwner: number[] = []
  for (let round = 0; round < KILLS; round++) {
    ours.push(await afterKill(nodeOwner(), ourWaiter, queued))
    bare.push(await afterKill(nodeOwner(), bareWaiter, queued))
    bareOwner.push(await afterKill(new LineProcess(peer, ['hold', file]), bareWaiter, queued))
  }
  await ourWaiter.kill()
  await bareWaiter.kill()
  add(
    'recovery: SIGKILL of a Node owner to the next owner',
    `${digits(median(ours) / 1000)} ms`,
    `C waiter ${digits(median(bare) / 1000)} ms (behind a C owner ${digits(median(bareOwner) / 1000)} ms)`,
    '≤ 2 ms',
    median(ours) <= 2000,
  )
}

/** CPU of this process over a span of doing nothing but what is under way, in ms. */
async function idleCpu(seconds: number): Promise<number> {
  const before = process.cpuUsage()
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  const used = process.cpuUsage(before)
  return (used.user + used.system) / 1000
}

async function waitingCpu(): Promise<void> {
  const mutex = new NamedMutex('Global\\cpu', { directory })
  const owner = await mutex.acquire()
  const idle = await idleCpu(WAIT_SECONDS)
  const waiter = mutex.acquire()
  await untilQueued(process.pid, mutex.path)
  const waiting = await idleCpu(WAIT_SECONDS)
  owner.release()
  ;(await waiter).release()
  add(
    `CPU of a ${WAIT_SECONDS} s wait`,
    `${digits(Math.max(0, waiting - idle))} ms`,
    `(idle process ${digits(idle)} ms, waiting ${digits(waiting)} ms)`,
    '≤ 1 ms',
    waiting - idle <= 1,
  )
}

async function statLatency(): Promise<number> {
  const start = process.hrtime.bigint()
  for (let call = 0; call < 200; call++) await stat(directory)
  return Number(process.hrtime.bigint() - start) / 200 / 1000
}

interface Footprint {
  readonly threads: number
  readonly rssKb: number
}

function footprint(): Footprint {
  // Several times: what one collection finds dead, the next gives back.
  for (let round = 0; round < 4; round++) globalThis.gc?.()
  return { threads: readdirSync('/proc/self/task').length, rssKb: process.memoryUsage.rss() / 1024 }
}

async function pendingAcquires(): Promise<void> {
  const mutexes = Array.from(
    { length: PENDING },
    (_, index) => new NamedMutex(`Global\\pending ${index}`, { directory }),
  )
  const free: number[] = []
  const busy: number[] = []
  let before: Footprint = footprint()
  let during: Footprint = before
  for (let round = 0; round < ROUNDS; round++) {
    free.push(await statLatency())
    const owners = mutexes.map((mutex) => mutex.tryAcquire())
    if (round === ROUNDS - 1) {
      // The threads of the rounds before have gone idle and are ended by now, or count as warm: let them go.
      await new Promise((resolve) => setTimeout(resolve, 6000))
      before = footprint()
    }
    const waiters = mutexes.map((mutex) => mutex.acquire())
    for (const mutex of mutexes) await untilQueued(process.pid, mutex.path)
    if (round === ROUNDS - 1) during = footprint()
    busy.push(await statLatency())
    for (const owner of owners) owner?.release()
    for (const waiter of waiters) (await waiter).release()
  }
  const ratio = median(busy.map((value, index) => value / (free[index] ?? value)))
  add(
    `fs.stat while ${PENDING} acquires are pending`,
    `${digits(median(busy))} µs`,
    `none pending ${digits(median(free))} µs, ratio ${digits(ratio)}`,
    'no slower',
    ratio <= 1.1,
  )
  const threads = (during.threads - before.threads) / PENDING
  const kib = (during.rssKb - before.rssKb) / PENDING
  add(
    'per pending acquire, each on a name of its own',
    `${digits(threads)} threads, ${kib > 0 ? `${digits(kib)} KiB` : "memory below the heap's own noise"}`,
    '',
    '≤ 1 thread',
    threads <= 1,
  )
}

async function sharedName(): Promise<void> {
  const mutex = new NamedMutex('Global\\shared', { directory })
  const owner = await mutex.acquire()
  const before = footprint()
  const count = 1000
  const waiters: Promise<MutexLock>[] = []
  for (let index = 0; index < count; index++) waiters.push(mutex.acquire())
  await untilQueued(process.pid, mutex.path)
  const during = footprint()
  owner.release()
  for (const waiter of waiters) (await waiter).release()
  const threads = during.threads - before.threads
  add(
    `${count} pending acquires of one name`,
    `${threads} thread${threads === 1 ? '' : 's'} in all, ${digits((during.rssKb - before.rssKb) / count)} KiB each`,
    '',
    '1 thread',
    threads <= 1,
  )
}

try {
  const compiled = spawnSync(
    'cc',
    ['-O2', '-o', peer, fileURLToPath(new URL('../../bench/peer/flock_peer.c', import.meta.url))],
    {
      stdio: 'inherit',
    },
  )
  if (compiled.status !== 0) throw new Error('The C peer could not be compiled: is a C compiler ("cc") installed?')
  const cpu = os.cpus()[0]?.model ?? 'unknown CPU'
  console.log(
    `${cpu} × ${os.cpus().length}, ${os.type()} ${os.release()}, Node ${process.versions.node}, files in ${directory}\n`,
  )
  for (const measure of [uncontended, handOff, recovery, waitingCpu, pendingAcquires, sharedName]) await measure()
  printTable(['what', 'os-mutex, median', 'beside', 'target', 'met'], rows)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
