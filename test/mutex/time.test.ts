import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AcquireOptions, MutexError, MutexTimeoutError } from 'os-mutex'
import {
  addonThreads,
  assertQueue,
  kernelTells,
  kernelTellsPids,
  mustBlock,
  unlessKernelTells,
} from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { resources } from '../support/resources.ts'

// That the clock is the monotonic one is tested in mutex/clock.test.ts, and the end by a signal in mutex/abort.test.ts.

const name = 'Global\\time'
const isWindows = process.platform === 'win32'

// On Windows a look takes a process of its own: in a loop, some of them must do.
const looksAt = (round: number) => kernelTells && (kernelTellsPids || round % 25 === 0)

test('timeoutMs: 0 tries once: it takes a free mutex and fails at once on a held one', async () => {
  await using folder = new LockFolder()
  const [mutex, owner] = [folder.mutex(name), await folder.process()]
  const onWait = () => assert.fail('it does not wait')
  ;(await mutex.acquire({ timeoutMs: 0, onWait })).release()
  mutex.acquireSync({ timeoutMs: 0, onWait }).release()
  await owner.acquire(name).lock
  const startedAt = performance.now()
  await assert.rejects(mutex.acquire({ timeoutMs: 0, onWait }), { code: 'ERR_MUTEX_TIMEOUT', timeoutMs: 0 })
  assert.throws(() => mutex.acquireSync({ timeoutMs: 0, onWait }), { code: 'ERR_MUTEX_TIMEOUT', timeoutMs: 0 })
  assert.ok(performance.now() - startedAt < 1000)
})

test('a timeout rejects with a MutexTimeoutError that names the mutex, the limit and the owner', async () => {
  await using folder = new LockFolder()
  const [mutex, owner] = [folder.mutex(name), await folder.process()]
  const held = await owner.acquire(name, { purpose: 'load phi-3' }).lock
  await held.report({ done: 3, total: 4, unit: 'layers' })
  const check = (error: unknown) => {
    assert.ok(error instanceof MutexTimeoutError && error instanceof MutexError && error instanceof Error)
    assert.equal(error.name, 'MutexTimeoutError')
    assert.equal(error.code, 'ERR_MUTEX_TIMEOUT')
    assert.equal(error.mutexName, name)
    assert.equal(error.timeoutMs, 30)
    assert.equal(error.owner?.pid, owner.pid)
    assert.equal(error.owner?.progress?.done, 3)
    for (const said of [String(owner.pid), 'load phi-3', '30 ms', '3 of 4 layers', 'time'])
      assert.ok(error.message.includes(said), error.message)
    return true
  }
  for (const acquire of [() => mutex.acquire({ timeoutMs: 30 }), async () => mutex.acquireSync({ timeoutMs: 30 })]) {
    const startedAt = performance.now()
    await assert.rejects(acquire, check)
    const tookMs = performance.now() - startedAt
    assert.ok(tookMs >= 29 && tookMs < 2000, `took ${tookMs} ms`)
  }
})

test('a limit beyond what a timer can count, and Infinity, wait on', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const mutex = folder.mutex(name)
  const acquires = [2 ** 31, 1e300, Number.POSITIVE_INFINITY, undefined].map((timeoutMs) =>
    mutex.acquire(timeoutMs === undefined ? {} : { timeoutMs }),
  )
  await mustBlock(Promise.race(acquires), folder.fileOf(name), process.pid)
  await held.release()
  for (const acquire of acquires) (await acquire).release()
})

test('a limit that is negative, NaN or no number is refused, whether the mutex is free or not', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  for (const state of ['free', 'held']) {
    const held = state === 'held' ? mutex.tryAcquire() : null
    for (const timeoutMs of [
      -1,
      -0.001,
      Number.NaN,
      Number.NEGATIVE_INFINITY,
      '100',
      null,
      {},
      [],
      true,
      10n,
    ] as number[]) {
      await assert.rejects(mutex.acquire({ timeoutMs }), {
        name: 'TypeError',
        code: 'ERR_MUTEX_INVALID_ARGUMENT',
        message: /timeoutMs/,
      })
      assert.throws(() => mutex.acquireSync({ timeoutMs }), {
        name: 'TypeError',
        code: 'ERR_MUTEX_INVALID_ARGUMENT',
        message: /timeoutMs/,
      })
    }
    held?.release()
  }
  mutex.tryAcquire()?.release()
  assert.deepEqual(mutex.query(), { held: false })
})

test('options that are not what they should be are refused, and leave nothing held', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const bad: unknown[] = [
    null,
    'soon',
    100,
    { signal: {} },
    { signal: null },
    { signal: 'now' },
    { signal: { aborted: 'no', addEventListener() {} } },
    { purpose: 1 },
    { purpose: null },
    { onWait: 'call me' },
  ]
  for (const options of bad as AcquireOptions[]) {
    await assert.rejects(mutex.acquire(options), { name: 'TypeError', code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    assert.deepEqual(mutex.query(), { held: false })
  }
  await assert.rejects(mutex.withLock(undefined as never), { name: 'TypeError', code: 'ERR_MUTEX_INVALID_ARGUMENT' })
  await assert.rejects(mutex.withLock({}, 'no function' as never), {
    name: 'TypeError',
    code: 'ERR_MUTEX_INVALID_ARGUMENT',
  })
  for (const options of [null, { directory: 1 }, { directory: '' }, { directory: 'a\0b' }, { app: 1 }] as never[]) {
    assert.throws(() => folder.mutex(name, options ?? { app: null as never }), {
      name: 'TypeError',
      code: 'ERR_MUTEX_INVALID_ARGUMENT',
    })
  }
  assert.deepEqual(mutex.query(), { held: false })
})

test('a timeout or an abort leaves no thread and no request in the kernel', unlessKernelTells, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name).lock
  const [mutex, path, before] = [folder.mutex(name), folder.fileOf(name), resources()]
  for (const way of ['timeout', 'abort', 'close', 'sync']) {
    const controller = new AbortController()
    const instance = folder.mutex(name)
    if (way === 'sync') assert.throws(() => mutex.acquireSync({ timeoutMs: 60 }), { code: 'ERR_MUTEX_TIMEOUT' })
    else {
      const acquire = instance.acquire({
        signal: controller.signal,
        ...(way === 'timeout' ? { timeoutMs: 1_500 } : {}),
      })
      acquire.catch(() => {})
      await mustBlock(acquire, path, process.pid)
      if (way === 'abort') controller.abort()
      if (way === 'close') instance.close()
      await assert.rejects(acquire)
    }
    assertQueue(path, [owner.pid], [], way)
    // Fewer, when an earlier test's idle thread has ended meanwhile. On Windows the system starts and ends threads as it likes.
    if (isWindows) assert.equal(addonThreads(), 0, way)
    else assert.ok(resources().threads <= before.threads, way)
  }
})

test('a timeout that races with the release either has the lock or leaves it free', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
  let granted = 0
  for (let round = 0; round < 100; round++) {
    await other.run(
      ({ mutex }, name, holdMs) => {
        const lock = mutex(name).tryAcquire()
        if (lock === null) throw new Error('a phantom has it')
        setTimeout(() => lock.release(), holdMs)
      },
      name,
      5,
    )
    const sync = round % 2 === 0
    const options = { timeoutMs: 3 + (round % 5) }
    try {
      const lock = sync ? mutex.acquireSync(options) : await mutex.acquire(options)
      granted++
      lock.release()
    } catch (error) {
      assert.ok(error instanceof MutexTimeoutError)
    }
    // When the owner has released, too, nobody has it.
    await other.run(({ mutex }, name) => mutex(name).withLock({ timeoutMs: 5000 }, () => {}), name)
    if (looksAt(round)) assertQueue(path, [], [], `round ${round}`)
  }
  assert.ok(granted > 0 && granted < 100, `${granted} of 100 were granted: no race was tried`)
})

test('acquireSync waits until the lock comes free, and blocks its thread only', async () => {
  await using folder = new LockFolder()
  const [owner, thread] = await Promise.all([folder.process(), folder.thread()])
  const held = await owner.acquire(name, { purpose: 'sync' }).lock
  const acquire = thread.acquire(name, { sync: true })
  assert.equal((await acquire.waiting)?.purpose, 'sync')
  await mustBlock(acquire.lock, folder.fileOf(name), process.pid)
  await held.release()
  const lock = await acquire.lock
  assert.equal(lock.abandoned, false)
  assert.ok(lock.waitedMs > 0)
})

const ifRemovable = isWindows
  ? { skip: 'Windows removes no file that is in use: see win32-record.test.ts for records that can’t be had' }
  : {}

test('a timeout is a timeout, also when the owner can no longer be told', ifRemovable, async () => {
  await using folder = new LockFolder()
  // In a process of its own: its first tick, which would notice that the file is gone, comes 2 s after its first wait.
  const [owner, party] = await Promise.all([folder.process(), folder.process()])
  await owner.acquire('told').lock
  const ends = await party.run(async ({ NamedMutex, directory, fs }) => {
    const mutex = new NamedMutex('told', { directory })
    const other = new NamedMutex('told', { directory })
    const waiting = mutex.acquire({ timeoutMs: 50 })
    // From here on, whoever opens the lock file finds a directory there.
    fs.rmSync(mutex.path)
    fs.mkdirSync(mutex.path)
    const attempts = [waiting, mutex.acquire({ timeoutMs: 0 }), other.acquire({ timeoutMs: 20, onWait: () => {} })]
    const end = ({ code, message }: Error & { code?: string }) => ({ code, message })
    return Promise.all(attempts.map((attempt) => attempt.then(() => undefined, end)))
  })
  for (const end of ends) {
    assert.equal(end?.code, 'ERR_MUTEX_TIMEOUT', end?.message)
    assert.match(end.message, /could not be identified/)
  }
  assert.equal(ends.length, 3)
})

test("a timeout's stack is that of the call that waited", async () => {
  await using folder = new LockFolder()
  const held = folder.mutex(name).tryAcquire()
  async function theOneWhoWaits(): Promise<unknown> {
    return await folder.mutex(name).acquire({ timeoutMs: 5 })
  }
  await assert.rejects(theOneWhoWaits(), (error: Error) => /theOneWhoWaits/.test(error.stack ?? ''))
  held?.release()
})
