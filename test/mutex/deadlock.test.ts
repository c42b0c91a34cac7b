import assert from 'node:assert/strict'
import { AsyncResource } from 'node:async_hooks'
import { join } from 'node:path'
import { test } from 'node:test'
import { MutexDeadlockError, type MutexLock } from 'os-mutex'
import { mustBlock } from '../support/kernel-queue.ts'
import { linkDirectory, withLinks } from '../support/links.ts'
import { LockFolder } from '../support/lock-folder.ts'

const name = 'Global\\deadlock'
const deadlock = { name: 'MutexDeadlockError', code: 'ERR_MUTEX_DEADLOCK' }

test('an acquire inside a withLock callback of the same mutex fails at once instead of waiting for itself', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  await mutex.withLock(async (lock) => {
    const failing = [
      () => mutex.acquire(),
      () => mutex.acquire({ timeoutMs: 60_000, detectDeadlock: true }),
      () => mutex.withLock(() => assert.fail('never')),
      () => folder.mutex(name).acquire(), // another instance
    ]
    for (const acquire of failing) {
      await assert.rejects(acquire, (error) => {
        assert.ok(error instanceof MutexDeadlockError)
        assert.equal(error.code, 'ERR_MUTEX_DEADLOCK')
        assert.match(error.message, /deadlock/)
        return true
      })
    }
    assert.equal(lock.released, false)
  })
  assert.deepEqual(mutex.query(), { held: false })
})

test('it is noticed however deep the call is: behind awaits, timers and other mutexes', async () => {
  await using folder = new LockFolder()
  const [mutex, inner] = [folder.mutex(name), folder.mutex('Global\\inner')]
  const deep = async () => {
    await new Promise((resolve) => setTimeout(resolve, 1))
    await new Promise((resolve) => setImmediate(resolve))
    return mutex.acquire()
  }
  await mutex.withLock(() => inner.withLock(() => assert.rejects(deep, deadlock)))
})

test('the Local and the plain spelling of a name are one mutex here, too', async () => {
  await using folder = new LockFolder()
  await folder.mutex('twin').withLock(() => assert.rejects(folder.mutex('Local\\twin').acquire(), deadlock))
})

test('other mutexes can be acquired inside, and the same name elsewhere', async () => {
  await using folder = new LockFolder()
  await using elsewhere = new LockFolder()
  await folder.mutex(name).withLock(async () => {
    await folder.mutex('Global\\other').withLock(async () => {
      assert.equal(await elsewhere.mutex(name).withLock(() => 'inside'), 'inside')
      assert.equal(await folder.mutex('Local\\deadlock').withLock(() => 'inside'), 'inside')
    })
  })
})

test('tryAcquire inside just does not get it, and acquireSync fails', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  await mutex.withLock(() => {
    assert.equal(mutex.tryAcquire(), null)
    assert.throws(() => mutex.acquireSync(), deadlock)
    assert.throws(() => folder.mutex(name).acquireSync({ timeoutMs: 1000 }), deadlock)
  })
})

test('acquireSync fails when its own thread holds or awaits the mutex, and waits for every other owner', async () => {
  await using folder = new LockFolder()
  const [mutex, other] = [folder.mutex(name), await folder.process()]
  const held = mutex.tryAcquire()
  assert.throws(() => folder.mutex(name).acquireSync(), deadlock)
  held?.release()
  const theirs = await other.acquire(name).lock
  const waiting = mutex.acquire()
  assert.throws(() => mutex.acquireSync({ timeoutMs: 1000 }), deadlock)
  await theirs.release()
  ;(await waiting).release()
  await other.acquire(name).lock
  assert.throws(() => mutex.acquireSync({ timeoutMs: 20 }), { code: 'ERR_MUTEX_TIMEOUT' })
  const thread = await folder.thread()
  await thread.acquire('Global\\of a thread').lock
  assert.throws(() => folder.mutex('Global\\of a thread').acquireSync({ timeoutMs: 20 }), { code: 'ERR_MUTEX_TIMEOUT' })
})

test('with detectDeadlock: false, work that the callback starts and does not await waits its turn', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  let later: Promise<boolean> | undefined
  await mutex.withLock(async (lock) => {
    later = mutex.withLock({ detectDeadlock: false }, () => lock.released)
    await mustBlock(later, folder.fileOf(name), process.pid)
  })
  assert.equal(await later, true)
})

test('work that outlives its withLock callback may acquire the mutex', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  let go = () => {}
  const started = new Promise<void>((resolve) => {
    go = resolve
  })
  let later: Promise<boolean> | undefined
  await mutex.withLock((lock) => {
    later = started.then(() => mutex.withLock(() => lock.released))
  })
  go()
  assert.equal(await later, true)
})

test('unrelated work of the same process waits, it is no deadlock', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const outside = new AsyncResource('outside')
  let acquire: Promise<MutexLock> | undefined
  await mutex.withLock(async () => {
    acquire = outside.runInAsyncScope(() => mutex.acquire())
    await mustBlock(acquire, folder.fileOf(name), process.pid)
  })
  ;(await acquire)?.release()
})

test("a lock that is held without withLock is nobody else's business: a second acquire waits", async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const lock = await mutex.acquire()
  const acquire = mutex.acquire()
  await mustBlock(acquire, folder.fileOf(name), process.pid)
  lock.release()
  ;(await acquire).release()
})

test('acquireSync looks again after onWait, which may have begun to wait for the mutex or closed it', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire('sync').lock
  const closing = folder.mutex('sync')
  assert.throws(() => closing.acquireSync({ onWait: () => closing.close() }), { code: 'ERR_MUTEX_CLOSED' })
  const mutex = folder.mutex('sync')
  const own: Promise<MutexLock>[] = []
  assert.throws(() => mutex.acquireSync({ onWait: () => own.push(mutex.acquire()) }), { code: 'ERR_MUTEX_DEADLOCK' })
  await owner.kill()
  for (const acquire of own) {
    const lock = await acquire
    assert.equal(lock.abandoned, true)
    lock.release()
  }
})

test('a mutex that is reached by a link to its lock home is still the same one', withLinks, async () => {
  await using folder = new LockFolder()
  const alias = join(folder.path, 'alias')
  linkDirectory(folder.path, alias)
  const [mutex, again] = [folder.mutex('linked'), folder.mutex('linked', { directory: alias })]
  assert.equal(again.path, mutex.path)
  await mutex.withLock(() => assert.rejects(again.acquire(), { code: 'ERR_MUTEX_DEADLOCK' }))
})

test('rounds that start the next one inside their callback leave no chain of locks behind', async () => {
  await using folder = new LockFolder()
  const party = await folder.process({ execArgv: ['--expose-gc'] })
  const left = await party.run(async ({ NamedMutex, directory }) => {
    const mutex = new NamedMutex('rounds', { directory })
    const locks: WeakRef<object>[] = []
    await new Promise<void>((resolve) => {
      const round = (): void => {
        void mutex.withLock(async (lock) => {
          locks.push(new WeakRef(lock))
          if (locks.length < 200) return void setImmediate(round)
          // The next round would still come, and with it this one's context.
          setTimeout(() => {}, 60_000).unref()
          resolve()
        })
      }
      round()
    })
    for (let turn = 0; turn < 5; turn++) {
      ;(globalThis as { gc?: () => void }).gc?.()
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
    return locks.filter((lock) => lock.deref() !== undefined).length
  })
  assert.ok(left < 20, `${left} of 200 locks are still reachable`)
})
