import assert from 'node:assert/strict'
import { test } from 'node:test'
import { acquireAll, NamedMutex } from 'os-mutex'
import { mustBlock } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'

const names = ['Global\\c', 'Global\\a', 'Global\\b']

test('acquireAll takes all, gives the locks in the order asked for, and releases them together', async () => {
  await using folder = new LockFolder()
  const mutexes = names.map((name) => folder.mutex(name))
  const locks = await acquireAll(mutexes, { purpose: 'all three' })
  assert.deepEqual(
    locks.locks.map((lock) => lock.mutexName),
    names,
  )
  assert.equal(locks.abandoned, false)
  for (const mutex of mutexes) assert.equal(mutex.query().owner?.purpose, 'all three')
  locks.release()
  locks.release()
  for (const mutex of mutexes) assert.deepEqual(mutex.query(), { held: false })
  {
    await using again = await acquireAll(mutexes)
    assert.equal(again.locks.length, 3)
  }
  {
    using again = await acquireAll(mutexes)
    assert.equal(again.locks.length, 3)
  }
  for (const mutex of mutexes) assert.deepEqual(mutex.query(), { held: false })
  assert.equal((await acquireAll([])).locks.length, 0)
})

test('callers who want the same mutexes in different orders do not wait for each other', async () => {
  await using folder = new LockFolder()
  const parties = await Promise.all([folder.process(), folder.process(), folder.thread()])
  const done = parties.map((party, index) =>
    party.run(
      async ({ acquireAll, mutex }, names, turn) => {
        for (let round = 0; round < 100; round++) {
          const order = turn === 0 ? names : turn === 1 ? names.toReversed() : [...names.slice(1), ...names.slice(0, 1)]
          const locks = await acquireAll(
            order.map((name) => mutex(name)),
            { timeoutMs: 15_000 },
          )
          if (round % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
          locks.release()
        }
        return 'done'
      },
      names,
      index,
    ),
  )
  assert.deepEqual(await Promise.all(done), ['done', 'done', 'done'])
})

test('while one is taken it waits; when it gives up, it holds none', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const mutexes = names.map((name) => folder.mutex(name))
  for (const taken of names) {
    const held = await owner.acquire(taken, { purpose: 'in the way' }).lock
    await assert.rejects(acquireAll(mutexes, { timeoutMs: 30 }), { code: 'ERR_MUTEX_TIMEOUT', mutexName: taken })
    const controller = new AbortController()
    const acquire = acquireAll(mutexes, { signal: controller.signal })
    await mustBlock(acquire, folder.fileOf(taken), process.pid)
    controller.abort(new Error('gave up'))
    await assert.rejects(acquire, /gave up/)
    for (const mutex of mutexes) assert.equal(mutex.query().held, mutex.name === taken)
    const patient = acquireAll(mutexes)
    await mustBlock(patient, folder.fileOf(taken), process.pid)
    await held.release()
    ;(await patient).release()
  }
})

test('the time limit is for all together, and the error tells the limit that was asked for', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const [first, second] = ['Global\\1', 'Global\\2']
  const held = await owner.acquire(first).lock
  await owner.acquire(second).lock
  const startedAt = performance.now()
  const acquire = acquireAll([folder.mutex(second), folder.mutex(first)], { timeoutMs: 1500 })
  acquire.catch(() => {})
  await mustBlock(acquire, folder.fileOf(first), process.pid)
  await new Promise((resolve) => setTimeout(resolve, 500)) // a third of the time is gone
  await held.release()
  await assert.rejects(acquire, {
    code: 'ERR_MUTEX_TIMEOUT',
    mutexName: second,
    timeoutMs: 1500,
    message: /within 1500 ms/,
  })
  const tookMs = performance.now() - startedAt
  assert.ok(tookMs >= 1499 && tookMs < 5000, `took ${tookMs} ms`)
})

test('a mutex that is named twice, under whatever spelling, is refused, and so is bad input', async () => {
  await using folder = new LockFolder()
  const twice = [folder.mutex('x'), folder.mutex('Global\\x'), folder.mutex('Local\\x')]
  await assert.rejects(acquireAll(twice), { name: 'TypeError', code: 'ERR_MUTEX_INVALID_ARGUMENT', message: /twice/ })
  await assert.rejects(acquireAll(['a\\b']), { name: 'TypeError', code: 'ERR_MUTEX_INVALID_NAME' })
  await assert.rejects(acquireAll(twice.slice(0, 2), { timeoutMs: -1 }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
  await assert.rejects(acquireAll(twice.slice(0, 2), { signal: 1 as never }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
  for (const mutex of twice) assert.deepEqual(mutex.query(), { held: false })
})

test('it tells when the owner of any of them had died', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire('Global\\b').lock
  await owner.kill()
  const locks = await acquireAll(names.map((name) => folder.mutex(name)))
  assert.equal(locks.abandoned, true)
  assert.deepEqual(
    locks.locks.map((lock) => lock.previousOwner?.pid),
    [undefined, undefined, owner.pid],
  )
  locks.release()
})

test('when it gives up, a death that it was told of is told to the next owner instead', async () => {
  await using folder = new LockFolder()
  const [dead, holder] = await Promise.all([folder.process(), folder.process()])
  const held = await holder.acquire('Global\\c').lock
  await dead.acquire('Global\\a', { purpose: 'to die' }).lock
  await dead.kill()
  const mutexes = ['a', 'b', 'c'].map((name) => folder.mutex(`Global\\${name}`))
  const controller = new AbortController()
  const aborted = acquireAll(mutexes, { signal: controller.signal })
  aborted.catch(() => {})
  await mustBlock(aborted, folder.fileOf('Global\\c'), process.pid)
  controller.abort()
  await assert.rejects(aborted, { name: 'AbortError' })
  await assert.rejects(acquireAll(mutexes, { timeoutMs: 1 }), { code: 'ERR_MUTEX_TIMEOUT' })
  await held.release()
  const locks = await acquireAll(mutexes)
  const [a, b, c] = locks.locks
  assert.equal(a?.previousOwner?.pid, dead.pid)
  assert.equal(a?.previousOwner?.purpose, 'to die')
  assert.deepEqual([b?.abandoned, c?.abandoned], [false, false], 'those that nobody died with')
  locks.release()
})

test('names may stand for mutexes in the usual lock home', async () => {
  await using folder = new LockFolder()
  process.env.OS_MUTEX_DIR = folder.path
  try {
    using usual = new NamedMutex('Global\\y')
    const locks = await acquireAll(['Global\\x', usual])
    assert.equal(folder.mutex('Global\\x').query().held, true)
    assert.equal(folder.mutex('Global\\y').query().held, true)
    locks.release()
  } finally {
    delete process.env.OS_MUTEX_DIR
  }
})

test('acquireAll refuses what is no mutex, and says what it was given', async () => {
  for (const odd of [null, 42, {}, ['a'], { path: '/x' }]) {
    await assert.rejects(acquireAll([odd as unknown as string]), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ERR_MUTEX_INVALID_ARGUMENT')
      assert.match(error.message, /takes names or NamedMutex objects, not /)
      return true
    })
  }
})
