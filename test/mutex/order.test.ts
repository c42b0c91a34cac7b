import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { mustBlock, unlessKernelTells, untilQueued } from '../support/kernel-queue.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'

const name = 'Global\\order'

/** Waits for the lock, notes that it came, and releases it. */
async function serve(acquire: { lock: Promise<{ release(): unknown }> }, note: () => void): Promise<void> {
  const lock = await acquire.lock
  note()
  await lock.release()
}

test('inside a process, acquires are served first come, first served, over instances and threads', async () => {
  await using folder = new LockFolder()
  const threads = await Promise.all([folder.thread(), folder.thread()])
  const held = folder.mutex(name).tryAcquire()
  const mutexes = [folder.mutex(name), folder.mutex(name)]
  const served: number[] = []
  const done: Promise<unknown>[] = []
  for (let place = 0; place < 64; place++) {
    const thread = threads[place % 4]
    if (thread === undefined) {
      const acquire = (mutexes[place % 2] ?? assert.fail()).acquire()
      done.push(serve({ lock: acquire }, () => served.push(place)))
    } else {
      const acquire = thread.acquire(name)
      await acquire.waiting
      done.push(serve(acquire, () => served.push(place)))
    }
  }
  held?.release()
  await Promise.all(done)
  assert.deepEqual(
    served,
    Array.from({ length: 64 }, (_, place) => place),
  )
})

test('a tryAcquire does not push in before acquires that wait in its process', async () => {
  await using folder = new LockFolder()
  const [first, pusher] = [folder.mutex(name), folder.mutex(name)]
  const held = first.tryAcquire()
  const acquires = [first.acquire(), first.acquire()]
  held?.release()
  assert.equal(pusher.tryAcquire(), null)
  assert.throws(() => pusher.acquireSync({ timeoutMs: 0 }), { code: 'ERR_MUTEX_DEADLOCK' })
  ;(await acquires[0])?.release()
  assert.equal(pusher.tryAcquire(), null)
  ;(await acquires[1])?.release()
  assert.ok(canTake(pusher))
})

test('those who gave up are skipped, and the others keep their order', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const held = mutex.tryAcquire()
  const served: number[] = []
  const controllers = Array.from({ length: 20 }, () => new AbortController())
  const done = controllers.map(({ signal }, place) =>
    serve({ lock: mutex.acquire({ signal }) }, () => served.push(place)).catch(() => {}),
  )
  for (const [place, controller] of controllers.entries()) if (place % 3 === 0) controller.abort()
  held?.release()
  await Promise.all(done)
  assert.deepEqual(
    served,
    controllers.map((_, place) => place).filter((place) => place % 3 !== 0),
  )
})

test('processes are served in the order in which the kernel queued them', unlessKernelTells, async () => {
  await using folder = new LockFolder()
  const path = folder.fileOf(name)
  const parties = await Promise.all(Array.from({ length: 4 }, () => folder.process()))
  const owner = await folder.process()
  for (let round = 0; round < 3; round++) {
    const held = await owner.acquire(name).lock
    const served: number[] = []
    const done: Promise<void>[] = []
    for (const [place, party] of parties.entries()) {
      const acquire = party.acquire(name)
      await mustBlock(acquire.lock, path, ...parties.slice(0, place + 1).map(({ pid }) => pid))
      done.push(serve(acquire, () => served.push(place)))
    }
    await held.release()
    await Promise.all(done)
    assert.deepEqual(served, [0, 1, 2, 3])
  }
})

test('a process with many waiters takes one place in the line at a time', unlessKernelTells, async () => {
  await using folder = new LockFolder()
  const path = folder.fileOf(name)
  const other = await folder.process()
  const mutex = folder.mutex(name)
  const held = mutex.tryAcquire()
  const served: string[] = []
  const ours = ['first', 'second', 'third'].map(async (place) => {
    const lock = await mutex.acquire()
    served.push(place)
    // The next of ours is in line behind the other process before this one makes room.
    if (place === 'first') await untilQueued(path, other.pid, process.pid)
    if (place === 'second') await untilQueued(path, process.pid)
    lock.release()
  })
  await untilQueued(path, process.pid)
  const theirs = other.acquire(name)
  await mustBlock(theirs.lock, path, process.pid, other.pid)
  const done = serve(theirs, () => served.push('theirs'))
  held?.release()
  await Promise.all([...ours, done])
  assert.deepEqual(served, ['first', 'theirs', 'second', 'third'])
})

type Loop = 'withLock' | 'tryAcquire' | 'acquireSync'

/** Takes the mutex again and again, with nothing at all in between, and counts the rounds in a file. */
function hog(party: Party, loop: Loop, holdMs: number): Promise<unknown> {
  const hogging = party.run(
    async ({ mutex, fs, directory, tell }, name, loop, holdMs) => {
      const own = mutex(name)
      const stopAt = performance.now() + 30_000
      let rounds = 0
      // In place and of one length, so that a reader never sees half of it.
      const counter = fs.openSync(`${directory}/rounds`, 'r+')
      const work = () => {
        const until = performance.now() + holdMs
        fs.writeSync(counter, Buffer.from(String(++rounds).padStart(9)), 0, 9, 0)
        if (rounds === 10) tell('under way')
        while (performance.now() < until);
        return performance.now() > stopAt || fs.existsSync(`${directory}/stop`)
      }
      for (let isOver = false; !isOver; ) {
        if (loop === 'withLock') isOver = await own.withLock(work)
        else {
          const lock = loop === 'tryAcquire' ? own.tryAcquire() : own.acquireSync()
          if (lock === null) continue
          isOver = work()
          lock.release()
        }
      }
    },
    name,
    loop,
    holdMs,
  )
  hogging.catch(() => {})
  return party.told()
}

interface Turn {
  /** Rounds of the hog's that passed meanwhile, also one that was under way. */
  readonly rounds: number
  readonly waitedMs: number
  /** How much too late a timer was that ran just after it: what the machine itself makes everybody wait. */
  readonly lateMs: number
}

function takeTurns(party: Party, times: number): Promise<Turn[]> {
  return party.run(
    async ({ mutex, fs, directory }, name, times) => {
      const count = () => Number(fs.readFileSync(`${directory}/rounds`, 'utf8'))
      const turns: Turn[] = []
      while (turns.length < times) {
        const before = count()
        const lock = await mutex(name).acquire()
        const [rounds, { waitedMs }] = [count() - before, lock]
        lock.release()
        const from = performance.now()
        await new Promise((resolve) => setTimeout(resolve, 2))
        turns.push({ rounds, waitedMs, lateMs: performance.now() - from - 2 })
      }
      return turns
    },
    name,
    times,
  )
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

for (const loop of ['withLock', 'tryAcquire', 'acquireSync'] as const) {
  for (const holdMs of [5, 0]) {
    test(`a process in a tight ${loop} loop that holds ${holdMs} ms each time lets another one have its turn`, async () => {
      await using folder = new LockFolder()
      writeFileSync(join(folder.path, 'rounds'), '0'.padStart(9))
      const [greedy, modest] = await Promise.all([folder.process(), folder.process()])
      await hog(greedy, loop, holdMs)
      const turns = await takeTurns(modest, 40)
      writeFileSync(join(folder.path, 'stop'), '')
      // Left to flock(2) alone, one acquire in ten lets a hundred rounds pass and more, where processors are idle: a busy
      // machine hides it.
      const [rounds, waitedMs] = [turns.map((turn) => turn.rounds), turns.map((turn) => turn.waitedMs)]
      const lateMs = mean(turns.map((turn) => turn.lateMs))
      if (holdMs > 0) assert.ok(mean(rounds) <= 5, `rounds passed: ${rounds}`)
      assert.ok(mean(waitedMs) <= 4 * holdMs + 20 + 10 * lateMs, `waited ${waitedMs} ms, timers ${lateMs} ms late`)
    })
  }
}

test('processes that all loop without a pause share the mutex', async () => {
  await using folder = new LockFolder()
  const parties = await Promise.all(Array.from({ length: 4 }, () => folder.process()))
  const start = Date.now() + 200
  const counts = await Promise.all(
    parties.map((party) =>
      party.run(
        async ({ mutex }, name, start) => {
          while (Date.now() < start);
          let count = 0
          for (; Date.now() < start + 1500; count++) {
            await mutex(name).withLock(() => {
              for (const until = performance.now() + 1; performance.now() < until; );
            })
          }
          return count
        },
        name,
        start,
      ),
    ),
  )
  // Starving would be some hundred to one; a busy machine alone may make it five to one.
  assert.ok(Math.min(...counts) * 20 >= Math.max(...counts), `rounds of each: ${counts}`)
})
