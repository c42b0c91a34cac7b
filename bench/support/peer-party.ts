// One process that takes part in the measurements with the mutex of any peer: it answers lines with lines. All stamps are nanoseconds of
// the monotonic clock. bench/peers/flock_party.c is its brother in C.
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { PeerMutex } from '../peers/peer.ts'
import { peerNamed } from './peer-list.ts'
import { pendingWaiters } from './peer-pool.ts'
import { median } from './statistics.ts'

const BATCH = 10

const [peerName, folder, name] = process.argv.slice(2)
if (folder === undefined || name === undefined) throw new Error('usage: peer-party PEER FOLDER NAME')
const peer = peerNamed(peerName)
const directory = folder
const mutex = await peer.open(directory, name)

function now(): number {
  return Number(process.hrtime.bigint())
}

function answer(...words: readonly (number | string)[]): void {
  process.stdout.write(`${words.join(' ')}\n`)
}

async function release(): Promise<number> {
  const released = now()
  const done = mutex.release()
  if (done !== undefined) await done
  return released
}

/** Owns it for a moment. The answer comes late, so that writing it does not compete with the hand-offs that follow. */
async function turn(answerAfterMs: number): Promise<void> {
  answer('waiting')
  await mutex.acquire()
  const acquired = now()
  const released = await release()
  if (answerAfterMs > 0) await sleep(answerAfterMs)
  answer(acquired, released)
}

/** The median of small batches: a mean would hold what the machine did meanwhile. */
async function pairs(ms: number): Promise<number> {
  const end = now() + ms * 1e6
  const batches: number[] = []
  do {
    const start = now()
    for (let pair = 0; pair < BATCH; pair++) {
      await mutex.acquire()
      const done = mutex.release()
      if (done !== undefined) await done
    }
    batches.push((now() - start) / BATCH)
  } while (now() < end)
  return median(batches)
}

const value = new Float64Array(1)

/** The counter is read and written back by each owner: an update is lost where there are two. */
function increment(counter: number): void {
  readSync(counter, value, 0, 8, 0)
  value[0] = (value[0] ?? 0) + 1
  writeSync(counter, value, 0, 8, 0)
}

/** Takes and releases it as fast as it can. Leaves the stamps of its turns in a file; gives their number. */
async function loop(start: number, end: number): Promise<number> {
  const stamps: number[] = []
  const counter = openSync(path.join(directory, 'counter'), 'r+')
  await sleep(Math.max(0, (start - now()) / 1e6))
  while (now() < end) {
    await mutex.acquire()
    const entered = now()
    if (entered < end) {
      increment(counter)
      stamps.push(entered, now())
    }
    const done = mutex.release()
    if (done !== undefined) await done
  }
  closeSync(counter)
  writeFileSync(path.join(directory, `stamps-${process.pid}`), Float64Array.from(stamps))
  return stamps.length / 2
}

/** What a long computation does to an owner: nothing of its JavaScript runs meanwhile. */
function blockEventLoop(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)
}

function several(count: number): Promise<PeerMutex[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => peer.open(directory, `${name}-${index}`)))
}

async function obey(line: string): Promise<void> {
  const [what, first = 0, second = 0] = line.split(' ').map((word, index) => (index === 0 ? word : Number(word)))
  const numbers = [Number(first), Number(second)] as const
  switch (what) {
    case 'acquire':
      await mutex.acquire()
      return answer(now())
    case 'release':
      return answer(await release())
    case 'turn':
      return turn(numbers[0])
    case 'pair':
      return answer(await pairs(numbers[0]))
    case 'loop':
      return answer(await loop(...numbers))
    case 'block':
      blockEventLoop(numbers[0])
      return answer(now())
    case 'hold':
      for (const one of await several(numbers[0])) await one.acquire()
      return answer('held')
    case 'pool':
      return answer(JSON.stringify(await pendingWaiters(await several(numbers[0]), directory)))
    default:
      throw new Error(`"${line}" is no order`)
  }
}

answer('ready')
for await (const line of createInterface({ input: process.stdin })) await obey(line)
// What a package left behind (a timer, a thread of the pool that waits) must not keep the process.
process.exit()
