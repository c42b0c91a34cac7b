// A Win32 mutex is owned by a thread, so each mutex in use has one of ours: no more of them than needed, and none left over.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addonThreads, mustBlock } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { resources, spareHandles } from '../support/resources.ts'
import { until } from '../support/until.ts'
import { onWindows } from '../support/win32/foreign.ts'

const name = 'Global\\threads'

test(
  'a mutex has no thread until it is used, one while it is held, a second while others wait behind',
  onWindows,
  async () => {
    await using folder = new LockFolder()
    const mutexes = Array.from({ length: 3 }, () => folder.mutex(name))
    const [first, second, third] = mutexes
    assert.ok(first && second && third)
    assert.equal(addonThreads(), 0)
    assert.deepEqual(first.query(), { held: false })
    assert.equal(addonThreads(), 0, 'a look needs none')
    const lock = await first.acquire()
    assert.equal(addonThreads(), 1)
    assert.equal(second.tryAcquire(), null)
    assert.equal(addonThreads(), 1)
    const acquires = [second.acquire(), third.acquire(), first.acquire()]
    assert.equal(addonThreads(), 2)
    lock.release()
    for (const acquire of acquires) (await acquire).release()
    assert.ok(addonThreads() <= 2)
    for (const mutex of mutexes) mutex.close()
    assert.equal(addonThreads(), 0, 'none after close()')
  },
)

test('an owner thread stays warm for a while and then ends by itself; one that owns stays', onWindows, async () => {
  await using folder = new LockFolder()
  const [idle, held] = [folder.mutex(name), folder.mutex('Global\\held')]
  const lock = held.tryAcquire()
  idle.tryAcquire()?.release()
  assert.equal(addonThreads(), 2, 'the next acquire finds it warm')
  idle.tryAcquire()?.release()
  assert.equal(addonThreads(), 2)
  await until('the idle one has ended', () => addonThreads() === 1)
  assert.equal(held.query().held, true)
  assert.equal(folder.mutex('Global\\held').tryAcquire(), null)
  idle.tryAcquire()?.release()
  assert.equal(addonThreads(), 2, 'and another one takes its place')
  lock?.release()
})

test(
  'two thousand mutexes that were made, used, waited for and closed leave no handle and no thread',
  onWindows,
  async () => {
    await using folder = new LockFolder()
    const other = await folder.process()
    const busy = 'Global\\busy'
    const held = await other.acquire(busy).lock
    const use = async (round: number) => {
      using mutex = folder.mutex(name)
      mutex.tryAcquire()?.release()
      if (round % 10 > 0) return
      using waiting = folder.mutex(busy)
      const controller = new AbortController()
      const acquire = waiting.acquire({ signal: controller.signal })
      if (round % 500 === 0) await mustBlock(acquire, folder.fileOf(busy), process.pid)
      controller.abort()
      await assert.rejects(acquire, { name: 'AbortError' })
    }
    for (let round = 1; round <= 20; round++) await use(round)
    const before = resources()
    for (let round = 1; round <= 2000; round++) await use(round)
    const after = resources()
    assert.ok(after.handles <= before.handles + spareHandles, `${before.handles} handles became ${after.handles}`)
    // fileOf() keeps an instance, and so a thread that stays warm for a while.
    await until('the last thread has ended', () => addonThreads() === 0)
    await held.release()
  },
)
