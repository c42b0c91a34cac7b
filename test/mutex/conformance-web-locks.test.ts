// Locks as the Web Locks API specifies them (https://w3c.github.io/web-locks/), where that applies. Each test begins with its section.
//
// | clause | test |
// |---|---|
// | 2.3 Modes: exclusive; no shared mode here | here |
// | 2.4 Locks: held until the callback's promise settles | here; release.test.ts: "withLock gives what its callback gives …" |
// | 2.4 released when the callback throws, and the reason is passed on | here; release.test.ts: "withLock releases on a throw …" |
// | 2.5 Requests: grantable when nothing is held and nothing earlier waits | here; order.test.ts for threads and processes |
// | 2.5 requests of other names are not held up | here |
// | 2.6 Agents: the end of an agent aborts its requests and releases its locks | here; crash.test.ts, environments.test.ts |
// | 3.2.1 ifAvailable: at once or not at all | tryAcquire: here; order.test.ts: "a tryAcquire does not push in …" |
// | 3.2.1 signal: aborted before, while waiting, after the grant | here; abort.test.ts for acquire and its listeners |
// | 3.2.1 steal | there is none: here |
// | 3.2.1 names that begin with "-" are reserved | they are not: names.test.ts |
// | 3.2.2 query(): held | here; owner-record.test.ts |
// | 3.2.2 query(): pending | it is not told: here |
// | 3.3 Lock: name | names.test.ts |
// | 5.1 Deadlocks: a request inside a callback of the same name | it is told at once: deadlock.test.ts |
// | 5.1 several locks in a fixed order | acquire-all.test.ts |
// | 6.1 Scope: an origin | a lock home: scopes.test.ts: "mutexes in different lock homes …" |
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mustBlock } from '../support/kernel-queue.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'
import { withTerminate } from '../support/runtimes.ts'

const name = 'Global\\resource'

/** A promise, and what settles it. */
function deferred<T = void>() {
  let resolve: (value: T) => void = () => {}
  let reject: (reason: unknown) => void = () => {}
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve
    reject = onReject
  })
  return { promise, resolve, reject }
}

const never = () => assert.fail('the callback is called')

// --- Held, as long as the callback's promise ------------------------------------------------------------------------

test("2.4 Locks: a lock is held until the callback's promise settles, be it any thenable", async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const work = deferred<string>()
  // biome-ignore lint/suspicious/noThenProperty: that is what it is about
  const thenable = { then: (resolve: (value: string) => void) => void work.promise.then(resolve) }
  const done = folder.mutex(name).withLock(() => thenable as unknown as Promise<string>)
  for (let round = 0; round < 3; round++) assert.equal(await other.tryAcquire(name), null)
  work.resolve('result')
  assert.equal(await done, 'result')
  assert.notEqual(await other.tryAcquire(name), null)
})

test('2.4 Locks: a callback that returns no promise holds the lock while it runs, and no longer', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const heldInside = await mutex.withLock(() => folder.mutex(name).tryAcquire() === null)
  assert.equal(heldInside, true)
  assert.ok(canTake(folder.mutex(name)))
})

for (const how of ['throws', 'rejects'] as const) {
  test(`2.4 Locks: a callback that ${how} releases the lock, cleanly, to the next request, and its reason is passed on`, async () => {
    await using folder = new LockFolder()
    const mutex = folder.mutex(name)
    const [entered, work, reason] = [deferred(), deferred(), new Error('it went wrong')]
    const failing = mutex.withLock(async () => {
      entered.resolve()
      await work.promise
    })
    await entered.promise
    const throwing = mutex.withLock(() => {
      throw reason
    })
    const next = mutex.withLock((lock) => lock.abandoned)
    const failures = Promise.all([
      assert.rejects(failing, (error) => error === reason),
      assert.rejects(throwing, (error) => error === reason),
    ])
    if (how === 'rejects') work.reject(reason)
    else work.resolve(Promise.reject(reason) as never)
    await failures
    assert.equal(await next, false)
  })
}

// --- Who is granted it ----------------------------------------------------------------------------------------------

test('2.5 Requests: requests of one name are granted in the order in which they were made, each after the one before has ended', async () => {
  await using folder = new LockFolder()
  const thread = await folder.thread()
  const work = Array.from({ length: 4 }, () => deferred())
  const events: string[] = []
  const request = (place: number) =>
    folder.mutex(name).withLock(async () => {
      events.push(`granted ${place}`)
      await work[place]?.promise
      events.push(`ended ${place}`)
    })
  const done = [request(0), request(1)]
  const theirs = thread.acquire(name)
  await theirs.waiting
  done.push(request(2), request(3))
  for (const { resolve } of work.toReversed()) resolve()
  const lock = await theirs.lock
  events.push('granted theirs', 'ended theirs')
  await lock.release()
  await Promise.all(done)
  const places = [0, 1, 'theirs', 2, 3]
  assert.deepEqual(
    events,
    places.flatMap((place) => [`granted ${place}`, `ended ${place}`]),
  )
})

test('2.5 Requests: a request that waits holds up none of another name, whichever was made first', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const held = await other.acquire(name).lock
  const mutex = folder.mutex(name)
  const waiting = mutex.withLock(() => 'a')
  assert.equal(await folder.mutex('Global\\another').withLock(() => 'b'), 'b')
  await mustBlock(waiting, folder.fileOf(name), process.pid)
  await held.release()
  assert.equal(await waiting, 'a')
})

test('3.2.1 ifAvailable: tryAcquire gives the lock or null, never throws for that, and leaves no request behind', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const mutex = folder.mutex(name)
  const held = await other.acquire(name).lock
  for (let round = 0; round < 10; round++) assert.equal(mutex.tryAcquire(), null)
  await held.release()
  assert.deepEqual(mutex.query(), { held: false })
  const lock = mutex.tryAcquire()
  assert.ok(lock)
  const waiting = mutex.acquire()
  lock.release()
  assert.equal(mutex.tryAcquire(), null, 'an earlier request of the name is in the queue')
  ;(await waiting).release()
})

// --- Giving up ------------------------------------------------------------------------------------------------------

test('3.2.1 signal: one that was aborted before rejects the request of a free mutex, and the callback is not called', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  await assert.rejects(mutex.withLock({ signal: AbortSignal.abort() }, never), { name: 'AbortError' })
  const reason = { its: 'own' }
  await assert.rejects(mutex.withLock({ signal: AbortSignal.abort(reason) }, never), (error) => error === reason)
  assert.deepEqual(mutex.query(), { held: false })
})

test('3.2.1 signal: an abort while it waits rejects the request, and the callback is never called', async () => {
  await using folder = new LockFolder()
  const [other, controller] = [await folder.process(), new AbortController()]
  const held = await other.acquire(name).lock
  const mutex = folder.mutex(name)
  const request = mutex.withLock({ signal: controller.signal }, never)
  await mustBlock(request, folder.fileOf(name), process.pid)
  controller.abort()
  await assert.rejects(request, { name: 'AbortError' })
  await held.release()
  assert.equal(await mutex.withLock(() => 'the next'), 'the next')
})

test('3.2.1 signal: once the lock has been granted the signal is ignored', async () => {
  await using folder = new LockFolder()
  const [other, controller] = [await folder.process(), new AbortController()]
  const result = await folder.mutex(name).withLock({ signal: controller.signal }, async (lock) => {
    controller.abort()
    assert.equal(await other.tryAcquire(name), null)
    return lock.released
  })
  assert.equal(result, false)
  assert.notEqual(await other.tryAcquire(name), null)
})

test('4.3 Abort a request: it is taken out of the queue, wherever it stands, and those behind it move up', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const mutex = folder.mutex(name)
  for (let aborted = 0; aborted < 3; aborted++) {
    const held = await other.acquire(name).lock
    const granted: number[] = []
    const controllers = Array.from({ length: 3 }, () => new AbortController())
    const requests = controllers.map(({ signal }, place) => mutex.withLock({ signal }, () => granted.push(place)))
    const settled = Promise.allSettled(requests)
    controllers[aborted]?.abort()
    await held.release()
    const outcomes = (await settled).map(({ status }) => status)
    assert.equal(outcomes[aborted], 'rejected')
    assert.deepEqual(
      granted,
      [0, 1, 2].filter((place) => place !== aborted),
    )
  }
})

// --- The end of an agent --------------------------------------------------------------------------------------------

test(
  '2.6 Agents: the end of a worker aborts its requests and releases its locks; here the next is told of it',
  withTerminate,
  async () => {
    await using folder = new LockFolder()
    const [owner, waiter, next] = await Promise.all([folder.thread(), folder.thread(), folder.thread()])
    await owner.acquire(name).lock
    await owner.acquire('Global\\another').lock
    const doomed = waiter.acquire(name)
    await doomed.waiting
    const last = next.acquire(name)
    await last.waiting
    await waiter.kill()
    await assert.rejects(doomed.lock, /The party ended/)
    await owner.kill()
    const lock = await last.lock
    // The specification has no word for it.
    assert.equal(lock.abandoned, true)
    assert.equal((await next.acquire('Global\\another').lock).abandoned, true)
    await lock.release()
    assert.equal((await next.acquire(name).lock).abandoned, false)
  },
)

// --- Looking --------------------------------------------------------------------------------------------------------

test('3.2.2 query(): tells what is held and by whom, from any agent; requests that wait are not told here', async () => {
  await using folder = new LockFolder()
  const [thread, other] = await Promise.all([folder.thread(), folder.process()])
  const mutex = folder.mutex(name)
  const agents = [async () => mutex.query(), () => thread.query(name), () => other.query(name)]
  for (const query of agents) assert.deepEqual(await query(), { held: false })
  const work = deferred()
  const first = mutex.withLock({ purpose: 'first' }, () => work.promise)
  const second = other.acquire(name, { purpose: 'second' })
  await second.waiting
  for (const query of agents) {
    const { held, owner, ...rest } = await query()
    assert.deepEqual([held, owner?.purpose, owner?.pid, rest], [true, 'first', process.pid, {}])
  }
  work.resolve()
  await first
  const lock = await second.lock
  for (const query of agents) assert.equal((await query()).owner?.purpose, 'second')
  await lock.release()
  for (const query of agents) assert.deepEqual(await query(), { held: false })
})

// --- What there is not ----------------------------------------------------------------------------------------------

test('2.3 Modes and 3.2.1 steal: there is no shared mode and nothing to steal with; a request for it is refused', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const mutex = folder.mutex(name)
  const held = await mutex.acquire()
  const wishes: object[] = [{ mode: 'shared' }, { steal: true }, { mode: 'shared', steal: true, ifAvailable: true }]
  for (const wish of wishes) {
    await assert.rejects(mutex.acquire({ ...wish, timeoutMs: 0 }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    await assert.rejects(other.acquire(name, { ...wish, timeoutMs: 5 }).lock, { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    assert.throws(() => mutex.tryAcquire({ ...wish }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    assert.equal(held.released, false)
  }
  held.release()
  assert.ok(canTake(mutex))
})
