import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MutexLock } from 'os-mutex'
import { mustBlock } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { ifCountable, resources, resourcesOf, spareHandles } from '../support/resources.ts'
import { until } from '../support/until.ts'

const name = 'Global\\release'

test('release is done when it returns: everybody can have the mutex then', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  for (let round = 0; round < 100; round++) {
    const lock = mutex.tryAcquire()
    assert.equal(lock?.released, false)
    lock.release()
    assert.equal(lock.released, true)
    assert.deepEqual(mutex.query(), { held: false })
    const next = folder.mutex(name).tryAcquire()
    assert.ok(next)
    next.release()
  }
})

test('releasing again does nothing, also once somebody else holds the mutex', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const first = mutex.tryAcquire()
  first?.release()
  first?.release()
  const [second, other] = [mutex.tryAcquire(), await folder.process()]
  assert.ok(second)
  first?.release()
  first?.[Symbol.dispose]()
  await first?.[Symbol.asyncDispose]()
  assert.equal(second.released, false)
  assert.equal(await other.tryAcquire(name), null)
  second.release()
  assert.notEqual(await other.tryAcquire(name), null)
})

test('a report after release does nothing', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const first = mutex.tryAcquire({ purpose: 'first' })
  first?.release()
  first?.report({ done: 1 })
  assert.deepEqual(mutex.query(), { held: false })
  const second = mutex.tryAcquire({ purpose: 'second' })
  first?.report({ done: 1 })
  const { owner } = mutex.query()
  assert.equal(owner?.purpose, 'second')
  assert.equal(owner.progress, undefined)
  second?.release()
})

test('using and await using release at the end of the block, also on a throw', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  {
    await using lock = await mutex.acquire()
    assert.equal(lock.released, false)
    assert.equal(mutex.query().held, true)
  }
  assert.deepEqual(mutex.query(), { held: false })
  const fails = () => {
    using lock = mutex.acquireSync()
    throw new Error(String(lock.released))
  }
  assert.throws(fails, /false/)
  assert.deepEqual(mutex.query(), { held: false })
  {
    // Nobody got it: a null resource is fine.
    using held = mutex.tryAcquire()
    using none = mutex.tryAcquire()
    assert.ok(held && none === null)
  }
  assert.deepEqual(mutex.query(), { held: false })
})

test('withLock gives what its callback gives and releases when that settles', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  assert.equal(await mutex.withLock(() => 'sync'), 'sync')
  let isDone = false
  const result = await mutex.withLock({ purpose: 'work' }, async (lock) => {
    assert.equal(mutex.query().owner?.purpose, 'work')
    await new Promise((resolve) => setImmediate(resolve))
    isDone = !lock.released
    return 42
  })
  assert.equal(result, 42)
  assert.equal(isDone, true)
  assert.deepEqual(mutex.query(), { held: false })
})

test('withLock releases on a throw and on a rejection, and passes the reason on', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const reason = new Error('the work failed')
  const throws = () => {
    throw reason
  }
  await assert.rejects(mutex.withLock(throws), (error) => error === reason)
  assert.deepEqual(mutex.query(), { held: false })
  await assert.rejects(
    mutex.withLock(async () => throws()),
    (error) => error === reason,
  )
  assert.deepEqual(mutex.query(), { held: false })
  assert.equal((await folder.nextOwner(name)).abandoned, false, 'the work failed, but its owner did release')
})

test('a withLock whose callback releases early leaves the next owner alone', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const next: (MutexLock | null)[] = []
  await mutex.withLock((lock) => {
    lock.release()
    next.push(folder.mutex(name).tryAcquire())
  })
  assert.ok(next[0])
  assert.equal(mutex.tryAcquire(), null)
  next[0].release()
})

test('a release in an exit handler is a clean one', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.run(async ({ mutex }, name) => {
    const lock = await mutex(name).acquire()
    process.once('exit', () => lock.release())
  }, name)
  owner.run(() => process.exit(0)).catch(() => {})
  await owner.ended
  assert.equal((await folder.nextOwner(name)).abandoned, false)
})

test('close() rejects the waits of its instance only, and no later call passes', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const [closing, staying] = [folder.mutex(name), folder.mutex(name)]
  const acquires = [
    closing.acquire(),
    closing.acquire({ timeoutMs: 60_000 }),
    closing.withLock(() => assert.fail('never')),
  ]
  const other = staying.acquire()
  await mustBlock(Promise.race([...acquires, other]), folder.fileOf(name), process.pid)
  closing.close()
  closing.close()
  closing[Symbol.dispose]()
  for (const acquire of acquires)
    await assert.rejects(acquire, { code: 'ERR_MUTEX_CLOSED', message: /release.*closed/ })
  await assert.rejects(closing.acquire(), { code: 'ERR_MUTEX_CLOSED' })
  await assert.rejects(
    closing.withLock(() => {}),
    { code: 'ERR_MUTEX_CLOSED' },
  )
  assert.throws(() => closing.tryAcquire(), { code: 'ERR_MUTEX_CLOSED' })
  assert.throws(() => closing.acquireSync(), { code: 'ERR_MUTEX_CLOSED' })
  assert.throws(() => closing.query(), { code: 'ERR_MUTEX_CLOSED' })
  await mustBlock(other, folder.fileOf(name), process.pid)
  await held.release()
  const lock = await other
  assert.equal(lock.abandoned, false)
  lock.release()
})

test('a lock that is held when its instance is closed stays held until it is released', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const lock = mutex.tryAcquire()
  mutex.close()
  assert.equal(folder.mutex(name).tryAcquire(), null)
  lock?.report({ done: 1 })
  assert.equal(folder.mutex(name).query().owner?.progress?.done, 1)
  lock?.release()
  assert.equal((await folder.nextOwner(name)).abandoned, false)
})

test('a lock that was garbage collected stays held until its process ends, and everybody learns why', async () => {
  await using folder = new LockFolder()
  const [loser, other] = await Promise.all([folder.process({ execArgv: ['--expose-gc'] }), folder.process()])
  await loser.run(async ({ NamedMutex, directory, tell, kept }, name) => {
    process.on('warning', (warning) => {
      const { name, message, code } = warning as Error & { code?: string }
      tell({ name, message, code })
    })
    // Nobody keeps the lock, nor the instance.
    await new NamedMutex(name, { directory }).acquire({ purpose: 'serve alone' })
    kept.push(setInterval(() => (globalThis as { gc?: () => void }).gc?.(), 10))
  }, name)
  const warning = (await loser.told()) as { name: string; code: string; message: string }
  assert.deepEqual([warning.name, warning.code], ['MutexWarning', 'OS_MUTEX_LOCK_COLLECTED'])
  for (const word of ['"serve alone"', 'release', 'await using'])
    assert.ok(warning.message.includes(word), warning.message)
  // What is collected after the warning would be the native object.
  for (let round = 0; round < 3; round++) await loser.run(() => (globalThis as { gc?: () => void }).gc?.())
  assert.equal(await other.tryAcquire(name), null)
  assert.equal(await loser.tryAcquire(name), null, 'nor does its own process get it')
  for (const party of [loser, other]) {
    const timeout = party.acquire(name, { timeoutMs: 20 }).lock
    await assert.rejects(
      timeout,
      (error: Error) => /garbage collected/.test(error.message) && /serve alone/.test(error.message),
    )
  }
  await loser.kill()
  const next = await folder.nextOwner(name)
  assert.equal(next.abandoned, true)
  assert.equal(next.previousOwner?.purpose, 'serve alone')
})

test('a lock that was garbage collected in a worker thread is free, and abandoned, when that thread ends', async () => {
  await using folder = new LockFolder()
  const thread = await folder.thread()
  await thread.run(async ({ NamedMutex, directory, load }, name) => {
    const { setFlagsFromString } = (await load('node:v8')) as typeof import('node:v8')
    const { runInNewContext } = (await load('node:vm')) as typeof import('node:vm')
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    const warned = new Promise((resolve) => process.once('warning', resolve))
    await new NamedMutex(name, { directory }).acquire()
    const timer = setInterval(collect, 10)
    await warned
    clearInterval(timer)
  }, name)
  assert.equal(folder.mutex(name).tryAcquire(), null)
  await thread.kill()
  assert.equal((await folder.nextOwner(name)).abandoned, true)
})

test('a released lock that is garbage collected gives no warning, and its mutex goes as well', async () => {
  await using folder = new LockFolder()
  const party = await folder.process({ execArgv: ['--expose-gc'] })
  const warnings = await party.run(async ({ NamedMutex, directory }) => {
    const said: string[] = []
    process.on('warning', (warning) => said.push(warning.message))
    for (let round = 0; round < 100; round++)
      (await new NamedMutex(`released ${round}`, { directory }).acquire()).release()
    for (let round = 0; round < 5; round++) {
      ;(globalThis as { gc?: () => void }).gc?.()
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    return said
  })
  assert.deepEqual(warnings, [])
})

test('what is in use is not garbage: a kept lock, and an acquire that waits through an instance that nobody keeps', async () => {
  await using folder = new LockFolder()
  const [party, owner] = await Promise.all([folder.process({ execArgv: ['--expose-gc'] }), folder.process()])
  const held = await owner.acquire('Global\\awaited').lock
  await party.run(async ({ NamedMutex, directory, tell, kept }, name) => {
    process.on('warning', (warning) => tell(warning.message))
    const acquire = new NamedMutex('Global\\awaited', { directory }).acquire()
    void acquire.then((lock) => {
      kept.push(lock)
      tell('granted')
    })
    kept.push(await new NamedMutex(name, { directory }).acquire())
    for (let round = 0; round < 20; round++) {
      ;(globalThis as { gc?: () => void }).gc?.()
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }, name)
  assert.equal(await owner.tryAcquire(name), null)
  await held.release()
  assert.equal(await party.told(), 'granted')
})

test('instances that are garbage give their descriptors and threads back', ifCountable, async () => {
  await using folder = new LockFolder()
  const [party, owner] = await Promise.all([folder.process({ execArgv: ['--expose-gc'] }), folder.process()])
  const names = Array.from({ length: 50 }, () => folder.uniqueName())
  const before = resourcesOf(party.pid)
  for (const one of names) {
    const held = await owner.acquire(one).lock
    const granted = party.run(async ({ NamedMutex, directory }, name) => {
      const lock = await new NamedMutex(name, { directory }).acquire()
      lock.release()
    }, one)
    await new Promise((resolve) => setImmediate(resolve))
    await held.release()
    await granted
  }
  await until('all is given back', async () => {
    await party.run(() => (globalThis as { gc?: () => void }).gc?.())
    const now = resourcesOf(party.pid)
    return now.handles <= before.handles + spareHandles && now.threads <= before.threads
  })
})

test(
  'close() gives descriptors and threads back at once, and with a held lock when that is released',
  ifCountable,
  async () => {
    await using folder = new LockFolder()
    const before = resources()
    for (let round = 0; round < 50; round++) {
      using mutex = folder.mutex(`closed ${round}`)
      const lock = await mutex.acquire()
      const waiting = mutex.acquire()
      lock.release()
      const last = await waiting
      mutex.close()
      last.release()
    }
    const after = resources()
    assert.ok(after.handles <= before.handles + spareHandles)
    assert.ok(after.threads <= before.threads) // fewer, when an earlier test's idle thread has ended meanwhile
  },
)
