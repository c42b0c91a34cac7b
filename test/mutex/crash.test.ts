import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { isQueue, kernelTells, mustBlock, unlessKernelTells, untilQueued } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { withPortClose, withTerminate } from '../support/runtimes.ts'
import { until } from '../support/until.ts'

const name = 'Global\\crash'

interface WayToEnd {
  readonly how: string
  readonly kind: 'process' | 'thread'
  readonly end: (party: Party) => Promise<unknown>
}

const endOfWork = 'the end of its work'
const exit = () => process.exit(3)
const throwUncaught = () =>
  void setImmediate(() => {
    throw new Error('nobody catches this')
  })
const waysToEnd: readonly WayToEnd[] = [
  { how: 'SIGKILL', kind: 'process', end: (party) => party.kill() },
  { how: 'SIGTERM', kind: 'process', end: (party) => party.kill('SIGTERM') },
  { how: 'process.exit()', kind: 'process', end: (party) => party.run(exit) },
  { how: 'an uncaught exception', kind: 'process', end: (party) => party.run(throwUncaught) },
  { how: endOfWork, kind: 'process', end: (party) => party.run(({ end }) => end()) },
  { how: 'worker.terminate()', kind: 'thread', end: (party) => party.kill() },
  { how: 'process.exit()', kind: 'thread', end: (party) => party.run(exit) },
  { how: 'an uncaught exception', kind: 'thread', end: (party) => party.run(throwUncaught) },
  { how: endOfWork, kind: 'thread', end: (party) => party.run(({ end }) => end()) },
]

for (const { how, kind, end } of waysToEnd) {
  test(
    `when a ${kind} that holds the lock ends by ${how}, the next waiter has it and is told of the owner`,
    kind === 'thread' && how === endOfWork ? withPortClose : {},
    async () => {
      await using folder = new LockFolder()
      const [owner, waiter] = await Promise.all([folder[kind](), folder.process()])
      await owner.acquire(name, { purpose: 'end badly' }).lock
      const next = waiter.acquire(name)
      await mustBlock(next.lock, folder.fileOf(name), waiter.pid)
      end(owner).catch(() => {}) // it ends before it can answer
      await owner.ended
      const lock = await next.lock
      assert.equal(lock.abandoned, true)
      assert.equal(lock.previousOwner?.pid, owner.pid)
      assert.equal(lock.previousOwner?.purpose, 'end badly')
      assert.equal(lock.previousOwner?.host, hostname())
      assert.equal(lock.previousOwner?.threadId === 0, kind === 'process')
      await lock.release()
      assert.equal((await waiter.acquire(name).lock).abandoned, false, 'told once')
    },
  )

  // A pending acquire keeps its process alive: see waiting.test.ts.
  if (how === endOfWork) continue
  test(`when a ${kind} that waits ends by ${how}, the line behind it goes on`, async () => {
    await using folder = new LockFolder()
    const [owner, victim, last] = await Promise.all([folder.process(), folder[kind](), folder.process()])
    const lock = await owner.acquire(name).lock
    const doomed = victim.acquire(name)
    await doomed.waiting
    await mustBlock(doomed.lock, folder.fileOf(name), victim.pid)
    const next = last.acquire(name)
    await mustBlock(next.lock, folder.fileOf(name), victim.pid, last.pid)
    end(victim).catch(() => {})
    await victim.ended
    await assert.rejects(doomed.lock, /The party ended/)
    if (kernelTells) await until('its request is gone', () => isQueue(folder.fileOf(name), [owner.pid], [last.pid]))
    await lock.release()
    assert.equal((await next.lock).abandoned, false)
  })
}

test('who comes after the crash is told of it just the same', async () => {
  await using folder = new LockFolder()
  for (const take of ['try', 'acquire', 'sync'] as const) {
    const [owner, late] = await Promise.all([folder.process(), folder.process()])
    await owner.acquire(name, { purpose: take }).lock
    await owner.kill()
    const lock = take === 'try' ? await late.tryAcquire(name) : await late.acquire(name, { sync: take === 'sync' }).lock
    assert.equal(lock?.abandoned, true)
    assert.equal(lock?.previousOwner?.pid, owner.pid)
    assert.equal(lock?.previousOwner?.purpose, take)
    await lock?.release()
  }
})

test('each of many owners that are killed in a row is told to its successor, and to nobody else', async () => {
  await using folder = new LockFolder()
  let previous: Party | undefined
  for (let round = 0; round < 8; round++) {
    const owner = await folder.process()
    const lock = await owner.acquire(name).lock
    assert.equal(lock.abandoned, previous !== undefined)
    assert.equal(lock.previousOwner?.pid, previous?.pid)
    await owner.kill()
    previous = owner
  }
  const mutex = folder.mutex(name)
  await mutex.withLock((lock) => assert.equal(lock.previousOwner?.pid, previous?.pid))
  await mutex.withLock((lock) => assert.equal(lock.abandoned, false))
})

test('an owner that released and is killed afterwards abandons nothing', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await (await owner.acquire(name).lock).release()
  await owner.kill()
  const lock = await folder.nextOwner(name)
  assert.equal(lock.abandoned, false)
  assert.equal(lock.previousOwner, undefined)
})

test('a process that ends abandons all that it held and nothing that it had released', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const names = Array.from({ length: 10 }, () => folder.uniqueName())
  const locks = await Promise.all(names.map((one) => owner.acquire(one, { purpose: one }).lock))
  for (let index = 0; index < names.length; index += 2) await locks[index]?.release()
  await owner.kill()
  for (const [index, one] of names.entries()) {
    const lock = await folder.nextOwner(one)
    assert.equal(lock.abandoned, index % 2 === 1)
    assert.equal(lock.previousOwner?.purpose, index % 2 === 1 ? one : undefined)
  }
})

test('the progress that an owner had reported outlives it', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name, { purpose: 'download' }).lock
  await held.report({ done: 1, total: 10, unit: 'bytes' })
  await held.report({ done: 7, total: 10, unit: 'bytes' })
  await owner.kill()
  const { previousOwner } = await folder.nextOwner(name)
  assert.equal(previousOwner?.purpose, 'download')
  const { done, total, unit, sequence } = previousOwner?.progress ?? {}
  assert.deepEqual({ done, total, unit, sequence }, { done: 7, total: 10, unit: 'bytes', sequence: 2 })
})

/** Holds this thread up until the kernel has given it the lock, so that it can't have heard of the grant. */
function blockUntilGranted(path: string): void {
  while (!isQueue(path, [process.pid], []));
}

test(
  'an abort or close() in just the moment of the grant leaves the abandonment to the next',
  unlessKernelTells,
  async () => {
    await using folder = new LockFolder()
    const path = folder.fileOf(name)
    for (const giveUp of ['abort', 'close'] as const) {
      const owner = await folder.process()
      await owner.acquire(name).lock
      const [mutex, controller] = [folder.mutex(name), new AbortController()]
      const acquire = mutex.acquire({ signal: controller.signal })
      await mustBlock(acquire, path, process.pid)
      owner.kill()
      blockUntilGranted(path)
      if (giveUp === 'abort') controller.abort(new Error('gave up'))
      else mutex.close()
      await assert.rejects(acquire, giveUp === 'abort' ? /gave up/ : { code: 'ERR_MUTEX_CLOSED' })
      await owner.ended
      const lock = folder.mutex(name).tryAcquire()
      assert.equal(lock?.abandoned, true)
      assert.equal(lock?.previousOwner?.pid, owner.pid)
      lock?.release()
    }
  },
)

test(
  'a time limit that runs out after the grant but before it is heard of lets the grant win',
  unlessKernelTells,
  async () => {
    await using folder = new LockFolder()
    const path = folder.fileOf(name)
    const owner = await folder.process()
    await owner.acquire(name).lock
    const startedAt = performance.now()
    const acquire = folder.mutex(name).acquire({ timeoutMs: 1000 })
    await mustBlock(acquire, path, process.pid)
    owner.kill()
    blockUntilGranted(path)
    while (performance.now() - startedAt < 1100);
    const lock = await acquire
    assert.equal(lock.abandoned, true)
    assert.equal(lock.previousOwner?.pid, owner.pid)
    lock.release()
  },
)

/** Has the party queue up and then hear nothing any more. Resolves when it stands in the kernel's line. */
async function queueUpDeaf(waiter: Party, path: string): Promise<void> {
  void waiter
    .run(({ mutex, kept, tell }, name) => {
      kept.push(mutex(name).acquire())
      tell('queued')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    }, name)
    .catch(() => {})
  await waiter.told()
  await untilQueued(path, waiter.pid)
}

test('a waiter that is killed after the grant but before it hears of it leaves the abandonment to the next', {
  ...unlessKernelTells,
  ...withTerminate,
}, async () => {
  await using folder = new LockFolder()
  const path = folder.fileOf(name)
  for (const kind of ['process', 'thread'] as const) {
    const [owner, waiter, next] = await Promise.all([folder.process(), folder[kind](), folder.process()])
    await owner.acquire(name).lock
    await queueUpDeaf(waiter, path)
    const last = next.acquire(name)
    await mustBlock(last.lock, path, waiter.pid, next.pid)
    await owner.kill()
    await until('the deaf waiter has it', () => isQueue(path, [waiter.pid], [next.pid]))
    await waiter.kill()
    const lock = await last.lock
    assert.equal(lock.abandoned, true)
    assert.equal(lock.previousOwner?.pid, owner.pid)
    await lock.release()
  }
})

test(
  'a waiter that is killed after the grant of a clean release was no owner yet: nothing is told',
  unlessKernelTells,
  async () => {
    await using folder = new LockFolder()
    const path = folder.fileOf(name)
    const [owner, waiter] = await Promise.all([folder.process(), folder.process()])
    const lock = await owner.acquire(name).lock
    await queueUpDeaf(waiter, path)
    await lock.release()
    await until('the deaf waiter has it', () => isQueue(path, [waiter.pid], []))
    await waiter.kill()
    const next = await owner.acquire(name).lock
    // By Windows' own word it was one: it died owning, as any program that leaves no record does.
    assert.equal(next.abandoned, process.platform === 'win32')
    assert.equal(next.previousOwner, undefined)
  },
)

test('a killed owner is succeeded within a tenth of a second, waiting or not', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const tookMs: number[] = []
  for (let round = 0; round < 5; round++) {
    const owner = await folder.process()
    await owner.acquire(name).lock
    const acquire = mutex.acquire()
    await mustBlock(acquire, folder.fileOf(name), process.pid)
    const startedAt = performance.now()
    owner.kill()
    const lock = await acquire
    tookMs.push(performance.now() - startedAt)
    assert.equal(lock.abandoned, true)
    lock.release()
  }
  // The kernel's work of ending a process is in it; the best of some rounds, since the machine may be busy.
  assert.ok(Math.min(...tookMs) < 100, `took ${tookMs} ms`)
})

test('in a storm of kills, whoever finds work half done has been told that its owner died', async () => {
  await using folder = new LockFolder()
  const failures: Error[] = []
  const startWorker = async () => {
    const party = await folder.process()
    const rounds = party.run(async ({ mutex, fs, directory }, name) => {
      const halfDone = `${directory}/half done`
      for (let round = 0; ; round++) {
        if (fs.existsSync(`${directory}/stop`)) return round
        const lock = round % 2 === 0 ? await mutex(name).acquire() : mutex(name).acquireSync()
        if (fs.existsSync(halfDone) && !lock.abandoned) throw new Error('half done, and nobody said so')
        fs.writeFileSync(halfDone, String(process.pid))
        if (round % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
        if (fs.readFileSync(halfDone, 'utf8') !== String(process.pid)) throw new Error('two owners')
        fs.unlinkSync(halfDone)
        lock.release()
      }
    }, name)
    rounds.catch((error: Error) => {
      if (!error.message.includes('SIGKILL')) failures.push(error)
    })
    return { party, rounds }
  }
  const workers = await Promise.all(Array.from({ length: 4 }, startWorker))
  for (let kill = 0; kill < 10; kill++) {
    await new Promise((resolve) => setTimeout(resolve, 5 + ((kill * 37) % 40))) // any moment is as good as another
    const victim = workers[kill % workers.length] ?? assert.fail()
    await victim.party.kill()
    workers[kill % workers.length] = await startWorker()
  }
  writeFileSync(join(folder.path, 'stop'), '')
  await Promise.allSettled(workers.map(({ rounds }) => rounds))
  assert.deepEqual(failures, [])
})
