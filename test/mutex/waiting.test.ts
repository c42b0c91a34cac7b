import assert from 'node:assert/strict'
import { pbkdf2 } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import {
  addonThreads,
  assertQueue,
  kernelTells,
  mustBlock,
  unlessKernelTells,
  untilQueued,
} from '../support/kernel-queue.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'
import { resources } from '../support/resources.ts'
import { withTerminate } from '../support/runtimes.ts'
import { secondUser, withSecondUser } from '../support/second-user.ts'
import { until } from '../support/until.ts'

const name = 'Global\\wait'

// These two first, while no thread of another test's is around.

test('one thread waits for a mutex, however many acquires are pending in the process', unlessKernelTells, async () => {
  await using folder = new LockFolder()
  const [owner, thread] = await Promise.all([folder.process(), folder.thread()])
  const held = await owner.acquire(name).lock
  const before = resources()
  const acquires = Array.from({ length: 100 }, () => folder.mutex(name).acquire())
  const others = Array.from({ length: 100 }, () => thread.acquire(name))
  await Promise.all(others.map((other) => other.waiting))
  await untilQueued(folder.fileOf(name), process.pid)
  assert.equal(addonThreads(), 1)
  assert.equal(resources().threads, before.threads + 1)
  await held.release()
  for (const acquire of acquires) (await acquire).release()
  for (const other of others) await (await other.lock).release()
  // On Windows one owns while the other waits behind it.
  assert.ok(addonThreads() <= (process.platform === 'win32' ? 2 : 1))
})

test('a thread that has nothing to wait for any more ends by itself', unlessKernelTells, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const mutex = folder.mutex(name)
  const acquire = mutex.acquire()
  await mustBlock(acquire, folder.fileOf(name), process.pid)
  await held.release()
  ;(await acquire).release()
  await until('it is gone', () => addonThreads() === 0)
  // And another wait starts another one.
  const again = await owner.acquire(name).lock
  const late = mutex.acquire()
  await mustBlock(late, folder.fileOf(name), process.pid)
  await again.release()
  ;(await late).release()
})

test('the event loop goes on while an acquire waits', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const acquire = folder.mutex(name).acquire()
  await mustBlock(acquire, folder.fileOf(name), process.pid)
  let longestMs = 0
  for (let before = performance.now(), turns = 0; turns < 200; turns++) {
    await new Promise((resolve) => setTimeout(resolve, 1))
    longestMs = Math.max(longestMs, performance.now() - before)
    before = performance.now()
  }
  // A loop that waits in the kernel would not turn at all.
  assert.ok(longestMs < 500, `one turn took ${longestMs} ms`)
  await held.release()
  ;(await acquire).release()
})

test('64 pending acquires leave the libuv pool free', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const names = Array.from({ length: 64 }, () => folder.uniqueName())
  const held = await Promise.all(names.map((one) => owner.acquire(one).lock))
  const work = async () => {
    const startedAt = performance.now()
    await Promise.all([
      ...Array.from({ length: 100 }, () => stat(folder.path)),
      ...Array.from({ length: 8 }, () => promisify(pbkdf2)('secret', 'salt', 2000, 32, 'sha256')),
    ])
    return performance.now() - startedAt
  }
  await work()
  const alone = await best(work)
  const acquires = names.map((one) => folder.mutex(one).acquire())
  await Promise.all(
    acquires.map((acquire, index) => mustBlock(acquire, folder.fileOf(names[index] ?? ''), process.pid)),
  )
  const beside = await best(work)
  await Promise.all(held.map((lock) => lock.release()))
  for (const lock of await Promise.all(acquires)) lock.release()
  // Were all pool threads blocked, it would never end; a busy machine may make it some times longer.
  assert.ok(beside < alone * 6 + 100, `took ${beside} ms beside the waits, ${alone} ms alone`)
})

async function best(measure: () => Promise<number>): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < 5; round++) best = Math.min(best, await measure())
  return best
}

test('waiting costs no processor time', async () => {
  await using folder = new LockFolder()
  const [owner, waiter] = await Promise.all([folder.process(), folder.process()])
  const held = await owner.acquire(name).lock
  const acquire = waiter.acquire(name)
  await mustBlock(acquire.lock, folder.fileOf(name), waiter.pid)
  const usedMs = await waiter.run(async () => {
    await new Promise((resolve) => setTimeout(resolve, 200)) // what starting up has left to do
    const before = process.cpuUsage()
    await new Promise((resolve) => setTimeout(resolve, 1500))
    const { user, system } = process.cpuUsage(before)
    return (user + system) / 1000
  })
  await held.release()
  await acquire.lock
  // A poll every 10 ms would take some 15 ms at the least; two timers and a message take 2.
  assert.ok(usedMs < 12, `${usedMs} ms of processor time in 1500 ms`)
})

test('a pending acquire keeps its process alive, a held lock does not', async () => {
  await using folder = new LockFolder()
  const [owner, waiter] = await Promise.all([folder.process(), folder.process()])
  const held = await owner.acquire(name).lock
  const proof = join(folder.path, 'proof')
  await waiter.run(
    ({ mutex, fs, end }, name, proof) => {
      void mutex(name)
        .acquire()
        .then((lock) => fs.writeFileSync(proof, String(lock.abandoned)))
      end() // from here on only the acquire keeps it
    },
    name,
    proof,
  )
  // A process that had nothing else to do would end now. It may take its time, so this can only miss a fault, not invent one.
  await Promise.race([waiter.ended, new Promise((resolve) => setTimeout(resolve, 300))])
  await held.release()
  // It holds the lock now, writes its proof, and ends all the same.
  assert.equal(await waiter.ended, 0)
  assert.equal(readFileSync(proof, 'utf8'), 'false')
  assert.equal((await owner.acquire(name).lock).previousOwner?.pid, waiter.pid)
})

test('an instance, a released lock and a finished wait do not keep a process alive', async () => {
  await using folder = new LockFolder()
  const [owner, waiter] = await Promise.all([folder.process(), folder.process()])
  const held = await owner.acquire(name).lock
  const acquire = waiter.acquire(name)
  await acquire.waiting
  await held.release()
  await (await acquire.lock).release()
  const again = await owner.acquire(name).lock
  await assert.rejects(waiter.acquire(name, { timeoutMs: 10 }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
  const aborted = waiter.acquire(name)
  await aborted.waiting
  await aborted.abort()
  await again.release()
  await waiter.run(({ end }) => end())
  assert.equal(await waiter.ended, 0)
})

test('worker.terminate() does not wait for the lock', withTerminate, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name).lock
  for (const sync of [false, true]) {
    const thread = await folder.thread()
    const acquire = thread.acquire(name, { sync })
    await mustBlock(acquire.lock, folder.fileOf(name), process.pid)
    const startedAt = performance.now()
    await thread.kill()
    const tookMs = performance.now() - startedAt
    assert.ok(tookMs < 1000, `took ${tookMs} ms`)
    if (kernelTells) assertQueue(folder.fileOf(name), [owner.pid], [], 'its request is gone from the kernel')
  }
})

test('onWait is called once, with who holds it, and only when the acquire has to wait', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const seen: unknown[] = []
  const onWait = (owner: unknown) => seen.push(owner)
  ;(await mutex.acquire({ onWait })).release()
  mutex.acquireSync({ onWait }).release()
  assert.equal(seen.length, 0)
  const owner = await folder.process()
  const held = await owner.acquire(name, { purpose: 'be seen' }).lock
  const acquire = mutex.acquire({ onWait })
  assert.equal(seen.length, 1, 'before acquire() returns')
  await held.release()
  const lock = await acquire
  assert.deepEqual(
    seen.map((one) => (one as { pid: number }).pid),
    [owner.pid],
  )
  assert.ok(lock.waitedMs > 0)
  lock.release()
})

test('an onWait that throws ends its acquire and leaves nothing in line', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const held = mutex.tryAcquire()
  const reason = new Error('from onWait')
  const onWait = () => {
    throw reason
  }
  await assert.rejects(mutex.acquire({ onWait }), (error) => error === reason)
  held?.release()
  assert.ok(canTake(mutex))
})

test('a wait for which the system gives no thread is refused, and leaves nothing in line', withSecondUser, async () => {
  await using folder = new LockFolder().openToAll()
  const [owner, party] = await Promise.all([folder.process(), folder.process({ uid: secondUser })])
  const held = await owner.acquire(name).lock
  await party.run(({ execFileSync }) => void execFileSync('prlimit', ['--pid', String(process.pid), '--nproc=1:1']))
  await assert.rejects(party.acquire(name).lock, { code: 'ERR_MUTEX_SYSTEM', message: /pthread_create.*EAGAIN/ })
  await assert.rejects(party.acquire(name, { sync: true }).lock, {
    code: 'ERR_MUTEX_SYSTEM',
    message: /pthread_create.*EAGAIN/,
  })
  await held.release()
  assert.notEqual(await party.tryAcquire(name), null)
})
