import assert from 'node:assert/strict'
import { renameSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { assertQueue, mustBlock, unlessKernelTells } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'

const name = 'Global\\vanish'

const ways: Record<string, (path: string) => void> = {
  removed: (path) => unlinkSync(path),
  'renamed away': (path) => renameSync(path, `${path}-gone`),
  replaced: (path) => {
    writeFileSync(`${path}-new`, '')
    renameSync(`${path}-new`, path)
  },
}

for (const [how, vanish] of Object.entries(ways)) {
  // A Win32 mutex does not depend on the file of its record, which nobody can remove while it is in use.
  const tryTo = (path: string): boolean => {
    try {
      vanish(path)
      return true
    } catch (error) {
      if (process.platform !== 'win32') throw error
      assert.ok(['EBUSY', 'EPERM'].includes((error as { code: string }).code), String(error))
      return false
    }
  }

  test(`a lock file that is ${how} while nobody holds it is not used again by those who knew it`, async () => {
    await using folder = new LockFolder()
    const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
    mutex.tryAcquire()?.release() // it is open now
    const before = statSync(path).ino
    const isNew = tryTo(path)
    const other = await folder.process()
    const lock = await other.acquire(name).lock
    assert.equal(statSync(path).ino !== before, isNew)
    assert.equal(mutex.tryAcquire(), null)
    assert.equal(mutex.query().owner?.pid, other.pid)
    const waiting = mutex.acquire()
    await mustBlock(waiting, path, process.pid)
    await lock.release()
    ;(await waiting).release()
    // And the other way round: who knows the old file comes first.
    tryTo(path)
    const first = mutex.tryAcquire()
    assert.ok(first)
    assert.equal(await other.tryAcquire(name), null)
    first.release()
  })

  test(`those who wait for a lock file that is ${how} meet again at the one under its name`, async () => {
    await using folder = new LockFolder()
    const path = folder.fileOf(name)
    const [owner, ...waiters] = await Promise.all([folder.process(), folder.process(), folder.process()])
    const held = await owner.acquire(name).lock
    const acquires = waiters.map((waiter) => waiter.acquire(name))
    for (const [index, acquire] of acquires.entries())
      await mustBlock(acquire.lock, path, ...waiters.slice(0, index + 1).map(({ pid }) => pid))
    tryTo(path)
    await held.release()
    // One of them has it, by the file that everybody finds now.
    const first = await Promise.race(acquires.map(async (acquire, index) => ({ lock: await acquire.lock, index })))
    assert.equal(folder.mutex(name).tryAcquire(), null)
    assert.equal(folder.mutex(name).query().owner?.pid, waiters[first.index]?.pid)
    const second = acquires[1 - first.index]?.lock ?? assert.fail()
    await mustBlock(second, path, waiters[1 - first.index]?.pid ?? 0)
    await first.lock.release()
    await (await second).release()
  })

  test(`when the lock file of a held mutex is ${how}, its process still has one owner at a time`, async () => {
    await using folder = new LockFolder()
    const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
    const held = mutex.tryAcquire({ purpose: 'first' })
    tryTo(path)
    assert.equal(mutex.tryAcquire(), null)
    const waiting = mutex.acquire()
    let isGranted = false
    void waiting.then(() => {
      isGranted = true
    })
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 1))
    assert.equal(isGranted, false)
    held?.report({ done: 1 })
    held?.release()
    const next = await waiting
    const other = await folder.process()
    assert.equal(await other.tryAcquire(name), null)
    next.release()
    assert.notEqual(await other.tryAcquire(name), null)
  })

  test(`an abort while the lock file is ${how} leaves nothing behind`, unlessKernelTells, async () => {
    await using folder = new LockFolder()
    const [mutex, path, owner] = [folder.mutex(name), folder.fileOf(name), await folder.process()]
    const held = await owner.acquire(name).lock
    const controller = new AbortController()
    const acquire = mutex.acquire({ signal: controller.signal })
    await mustBlock(acquire, path, process.pid)
    tryTo(path)
    await held.release()
    controller.abort(new Error('gave up'))
    await acquire.then(
      (lock) => lock.release(),
      (error: Error) => assert.equal(error.message, 'gave up'),
    )
    const lock = await owner.tryAcquire(name)
    assert.ok(lock)
    assertQueue(path, [owner.pid], [])
  })
}

const ifRemovable =
  process.platform === 'win32' ? { skip: 'Windows removes no file that is in use, nor its directory' } : {}

test('a lock home that is removed under a waiter, and comes back, serves again', ifRemovable, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex('Local\\vanish')
  mutex.tryAcquire()?.release()
  rmSync(dirname(mutex.path), { recursive: true })
  assert.deepEqual(mutex.query(), { held: false })
  const lock = mutex.tryAcquire()
  assert.ok(lock)
  assert.equal(folder.mutex('Local\\vanish').tryAcquire(), null)
  lock.release()
})

test('a waiter whose lock file cannot be made again is told why', ifRemovable, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name).lock
  const acquire = folder.mutex(name).acquire()
  await mustBlock(acquire, folder.fileOf(name), process.pid)
  rmSync(folder.path, { recursive: true })
  await owner.kill()
  await assert.rejects(acquire, { code: 'ERR_MUTEX_LOCK_FILE', message: /directory does not exist/ })
})

test('a mutex that this process holds is told as held, also when its file is gone', ifRemovable, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex('gone')
  const lock = await mutex.acquire({ purpose: 'still here' })
  rmSync(mutex.path)
  assert.equal(mutex.query().owner?.purpose, 'still here')
  lock.release()
})
