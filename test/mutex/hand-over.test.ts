// What an owner finds in its first step, which runs before its acquire is settled in JavaScript (NamedMutex.acquire).
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { AcquireOptions, MutexLock, NamedMutex } from 'os-mutex'
import { canTake, LockFolder } from '../support/lock-folder.ts'
import { withTimersTold } from '../support/runtimes.ts'

const name = 'Global\\hand-over'

/** An acquire that waits behind another process is handed the lock; gives what `first` gives, which is its owner's first step. */
async function handOver<T>(
  folder: LockFolder,
  options: AcquireOptions,
  first: (lock: MutexLock, mutex: NamedMutex, startedAt: number) => T,
): Promise<T> {
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const mutex = folder.mutex(name)
  const startedAt = performance.now()
  const acquire = mutex.acquire(options).then((lock) => first(lock, mutex, startedAt))
  await held.release()
  return acquire
}

/** What is said on `channel` while `during` runs. */
async function heard<T>(channels: readonly string[], during: () => Promise<T>): Promise<string[]> {
  const told: string[] = []
  const hear = (_: unknown, channel: string | symbol) => told.push(String(channel))
  for (const channel of channels) subscribe(channel, hear)
  try {
    await during()
    await turn()
    return told
  } finally {
    for (const channel of channels) unsubscribe(channel, hear)
  }
}

test('waitedMs is the length of the wait, however late it is read, also after the release', async () => {
  await using folder = new LockFolder()
  for (const releaseFirst of [false, true]) {
    await handOver(folder, {}, (lock, _, startedAt) => {
      const atMost = performance.now() - startedAt
      if (releaseFirst) lock.release()
      while (performance.now() - startedAt < atMost + 50);
      assert.ok(lock.waitedMs > 0 && lock.waitedMs <= atMost, `${lock.waitedMs} ms of at most ${atMost} ms`)
      lock.release()
    })
  }
})

test('a lock that is released in the first step is released for good', async () => {
  await using folder = new LockFolder()
  const lock = await handOver(folder, {}, (lock) => {
    assert.equal(lock.released, false)
    lock.release()
    assert.equal(lock.released, true)
    return lock
  })
  await turn()
  assert.equal(lock.released, true)
  assert.equal(lock.abandoned, false)
  assert.ok(canTake(folder.mutex(name)))
})

test('progress can be reported in the first step, and later', async () => {
  await using folder = new LockFolder()
  for (const steps of [[1, 2], [2]]) {
    const report = (lock: MutexLock, done: number) => {
      if (!steps.includes(done)) return
      lock.report({ done, total: 2 })
      const { owner } = folder.mutex(name).query()
      assert.equal(owner?.purpose, 'progress')
      assert.equal(owner?.progress?.done, done)
    }
    const lock = await handOver(folder, { purpose: 'progress' }, (lock) => {
      report(lock, 1)
      return lock
    })
    await turn()
    await turn()
    report(lock, 2)
    lock.release()
  }
})

test('an abort, or the end of the instance, in the first step does not touch the lock', async () => {
  await using folder = new LockFolder()
  for (const end of ['abort', 'close'] as const) {
    const controller = new AbortController()
    const lock = await handOver(folder, { signal: controller.signal, timeoutMs: 60_000 }, (lock, mutex) => {
      if (end === 'abort') controller.abort()
      else mutex.close()
      return lock
    })
    await turn()
    assert.equal(lock.released, false)
    assert.equal(canTake(folder.mutex(name)), false)
    lock.release()
    assert.ok(canTake(folder.mutex(name)))
  }
})

test('soon after, no listener of the acquire is left', async () => {
  await using folder = new LockFolder()
  const { signal } = new AbortController()
  const lock = await handOver(folder, { signal }, (lock) => lock)
  for (let turns = 0; turns < 1000 && getEventListeners(signal, 'abort').length > 0; turns++) await turn()
  assert.equal(getEventListeners(signal, 'abort').length, 0)
  lock.release()
})

test('soon after, no timer of the acquire is left', withTimersTold, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
  const before = timers()
  const acquire = folder.mutex(name).acquire({ timeoutMs: 60_000 })
  assert.equal(timers(), before + 1)
  await held.release()
  const lock = await acquire
  for (let turns = 0; turns < 1000 && timers() > before; turns++) await turn()
  assert.equal(timers(), before)
  lock.release()
})

test('a listener that comes during the wait hears of the acquire before the release', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  for (const releasedBy of ['first step', 'a later one'] as const) {
    const held = await owner.acquire(name).lock
    const acquire = folder.mutex(name).acquire()
    const told = await heard(['os-mutex:acquire', 'os-mutex:release'], async () => {
      await held.release()
      const lock = await acquire
      if (releasedBy === 'a later one') await turn()
      lock.release()
    })
    assert.deepEqual(told, ['os-mutex:acquire', 'os-mutex:release'])
  }
})
