// The mutex as Microsoft documents Win32's, on every platform. Sources, each test begins with its own:
//   WaitForSingleObject  https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-waitforsingleobject
//   CreateMutexExW       https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-createmutexexw
//   ReleaseMutex         https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-releasemutex
//   Mutex Objects        https://learn.microsoft.com/windows/win32/sync/mutex-objects
//   Object Namespaces    https://learn.microsoft.com/windows/win32/termserv/kernel-object-namespaces
//
// | clause | test |
// |---|---|
// | WAIT_OBJECT_0: the state was signaled, the caller owns it now | here |
// | WAIT_TIMEOUT with 0: no wait state; with n: not before n ms | here; time.test.ts: "timeoutMs: 0 tries once", "a timeout rejects …" |
// | INFINITE returns only when signaled | here; time.test.ts: "a limit beyond what a timer can count, and Infinity" |
// | WAIT_ABANDONED grants ownership, and ends with a release | here; crash.test.ts for every way to end |
// | ReleaseMutex fails for whoever does not own | here; release.test.ts: "releasing again does nothing …" |
// | ownership is a thread's: a thread's end abandons | crash.test.ts: "when a thread that holds the lock ends by …" |
// | of several waiters one is selected | here; the order is not promised there, and is here: order.test.ts |
// | the owner may wait again at once, and must release as often | not so here, by design: conformance-dotnet.test.ts |
// | creating an existing mutex opens it, whoever was first | here; win32-foreign.test.ts with a program that calls CreateMutex |
// | the object ends with its last handle | here; win32-foreign.test.ts: "… once the kernel has forgotten it" |
// | names: case, length, prefixes, backslash | here in the kernel; names.test.ts, property-names.test.ts |
// | ERROR_INVALID_HANDLE, ERROR_ACCESS_DENIED | win32-foreign.test.ts |
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mustBlock } from '../support/kernel-queue.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'

const name = 'Global\\win32'
const timeout = { code: 'ERR_MUTEX_TIMEOUT' }

test('WaitForSingleObject, WAIT_OBJECT_0: a wait for a signaled mutex makes the caller its owner, by every call', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const mutex = folder.mutex(name)
  const calls = [
    async () => mutex.tryAcquire(),
    async () => mutex.acquireSync({ timeoutMs: 0 }),
    async () => mutex.acquireSync(),
    () => mutex.acquire({ timeoutMs: 0 }),
    () => mutex.acquire(),
  ]
  for (const call of calls) {
    const lock = await call()
    assert.deepEqual([lock?.abandoned, lock?.waitedMs], [false, 0])
    assert.equal(await other.tryAcquire(name), null, 'it is nonsignaled now')
    lock?.release()
    const back = await other.tryAcquire(name)
    assert.equal(back?.abandoned, false)
    await back?.release()
  }
})

test('WaitForSingleObject, dwMilliseconds 0: the call tests the state, does not wait and changes nothing', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name, { purpose: 'unmoved' }).lock
  const mutex = folder.mutex(name)
  const onWait = () => assert.fail('it waits')
  for (let round = 0; round < 20; round++) {
    assert.equal(mutex.tryAcquire(), null)
    await assert.rejects(mutex.acquire({ timeoutMs: 0, onWait }), timeout)
    assert.throws(() => mutex.acquireSync({ timeoutMs: 0, onWait }), timeout)
  }
  assert.equal((await owner.query(name)).owner?.purpose, 'unmoved')
  await held.release()
  assert.ok(canTake(mutex))
})

test('WaitForSingleObject, WAIT_TIMEOUT: the interval elapses first, the owner stays, and a later release is for others', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const mutex = folder.mutex(name)
  const calls = [() => mutex.acquire({ timeoutMs: 150 }), async () => mutex.acquireSync({ timeoutMs: 150 })]
  for (const call of calls) {
    const startedAt = performance.now()
    await assert.rejects(call, timeout)
    assert.ok(performance.now() - startedAt >= 149)
  }
  assert.equal(mutex.query().owner?.pid, owner.pid)
  await held.release()
  assert.deepEqual(mutex.query(), { held: false }, 'nobody who gave up has it')
})

test('WaitForSingleObject, INFINITE: the call returns only when the mutex is signaled', async () => {
  await using folder = new LockFolder()
  const [owner, waiter] = await Promise.all([folder.process(), folder.process()])
  for (const sync of [false, true]) {
    const held = await owner.acquire(name).lock
    const acquire = waiter.acquire(name, { timeoutMs: Number.POSITIVE_INFINITY, sync })
    await acquire.waiting
    await mustBlock(acquire.lock, folder.fileOf(name), waiter.pid)
    await held.release()
    await (await acquire.lock).release()
  }
})

for (const waits of [true, false]) {
  test(`WaitForSingleObject, WAIT_ABANDONED: whoever ${waits ? 'waits' : 'comes later'} owns the mutex, and is told`, async () => {
    await using folder = new LockFolder()
    const [owner, next, other] = await Promise.all([folder.process(), folder.process(), folder.process()])
    await owner.acquire(name).lock
    const waiting = waits ? next.acquire(name) : undefined
    await waiting?.waiting
    await owner.kill()
    const lock = await (waiting ?? next.acquire(name)).lock
    assert.equal(lock.abandoned, true)
    assert.equal(await other.tryAcquire(name), null, 'the state is nonsignaled')
    // Mutex Objects: "it is no longer considered abandoned after the thread releases its ownership".
    await lock.release()
    assert.equal((await other.tryAcquire(name))?.abandoned, false)
  })
}

test('Mutex Objects, abandoned: a new owner that ends without a release abandons it again', async () => {
  await using folder = new LockFolder()
  const parties = await Promise.all([folder.process(), folder.process()])
  for (const [index, party] of parties.entries()) {
    assert.equal((await party.acquire(name).lock).abandoned, index > 0)
    await party.kill()
  }
  const lock = await folder.nextOwner(name)
  assert.deepEqual([lock.abandoned, lock.previousOwner?.pid], [true, parties[1]?.pid])
})

test('ReleaseMutex fails if the caller does not own the mutex: here it does nothing, whatever lock it is asked of', async () => {
  await using folder = new LockFolder()
  const [owner, thread] = await Promise.all([folder.process(), folder.thread()])
  const mutex = folder.mutex(name)
  const ours = mutex.tryAcquire()
  ours?.release()
  const theirs = await thread.acquire(name).lock
  await theirs.release()
  const held = await owner.acquire(name).lock
  ours?.release()
  await theirs.release()
  mutex.close()
  assert.equal(await thread.tryAcquire(name), null)
  await held.release()
  assert.notEqual(await thread.tryAcquire(name), null)
})

test('CreateMutexExW, remarks: of many waiters one at a time is granted the mutex, and each of them once', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const parties = await Promise.all([folder.process(), folder.thread(), folder.process(), folder.thread()])
  const held = await owner.acquire(name).lock
  let owners = 0
  const grants: number[] = []
  const serve = async (waiter: number, acquire: Promise<{ release(): unknown }>) => {
    const lock = await acquire
    owners++
    grants.push(waiter)
    assert.equal(owners, 1)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(owners, 1)
    owners--
    await lock.release()
  }
  const served = parties.flatMap((party, waiter) => [
    serve(waiter, party.acquire(name).lock),
    serve(waiter, party.acquire(name).lock),
  ])
  served.push(serve(4, folder.mutex(name).acquire()), serve(4, folder.mutex(name).acquire()))
  await held.release()
  await Promise.all(served)
  assert.deepEqual(grants.toSorted(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
  assert.ok(canTake(folder.mutex(name)), 'and nobody again')
})

test('CreateMutexExW, remarks: to create a mutex that exists opens it, and no process has to be the first', async () => {
  await using folder = new LockFolder()
  const parties = await Promise.all([folder.process(), folder.process(), folder.thread()])
  for (const [index, party] of parties.entries()) {
    const lock = await party.tryAcquire(name)
    assert.notEqual(lock, null)
    for (const other of parties.filter((one) => one !== party))
      assert.equal(await other.tryAcquire(name), null, `${index}`)
    await lock?.release()
  }
})

test('CreateMutexExW, remarks: when its last handle is closed the mutex is gone, and the next one of the name is signaled', async () => {
  await using folder = new LockFolder()
  const [one, other] = await Promise.all([folder.process(), folder.process()])
  for (const party of [one, other]) {
    const lock = await party.acquire(name).lock
    await lock.release()
    await party.run(({ mutex }, name) => mutex(name).close(), name)
    await party.kill()
  }
  const lock = folder.mutex(name).tryAcquire()
  assert.equal(lock?.abandoned, false)
  lock?.release()
})

test('CreateMutexExW, lpName: name comparison is case sensitive', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const names = ['Global\\Case', 'Global\\case', 'Global\\CASE', 'Case', 'case', 'Global\\Straße', 'Global\\STRASSE']
  for (const one of names) assert.notEqual(await other.tryAcquire(one), null, one)
  for (const one of names) assert.equal(folder.mutex(one).tryAcquire(), null, one)
})

test('CreateMutexExW, lpName: a name of MAX_PATH characters is shared by processes, and a longer one is none', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  for (const prefix of ['', 'Local\\', 'Global\\']) {
    const longest = prefix + 'n'.repeat(260 - prefix.length)
    const lock = await other.tryAcquire(longest)
    assert.notEqual(lock, null)
    assert.equal(folder.mutex(longest).tryAcquire(), null)
    // One that differs in its last character only.
    assert.ok(canTake(folder.mutex(`${longest.slice(0, -1)}m`)))
    await lock?.release()
    await assert.rejects(other.tryAcquire(`${longest}n`), { code: 'ERR_MUTEX_INVALID_NAME' })
  }
})

test('CreateMutexExW, lpName: the rest of a name may have any character but the backslash', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  for (const base of ['a/b', 'a:b', '*?"<>|', '.', '..', 'two  words ', 'ünï', '日本語', '😀', '\u0001', 'C:/x']) {
    const lock = await other.tryAcquire(`Global\\${base}`)
    assert.notEqual(lock, null, base)
    assert.equal(folder.mutex(`Global\\${base}`).tryAcquire(), null, base)
    await lock?.release()
  }
  for (const bad of ['a\\b', 'Global\\a\\b', 'Session\\1\\a', 'Global\\Local\\a']) {
    await assert.rejects(other.tryAcquire(bad), { code: 'ERR_MUTEX_INVALID_NAME' })
  }
})

test('Object Namespaces: "Global\\" and "Local\\" are two namespaces, no prefix is "Local\\", and prefixes are case sensitive', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const [global, local] = [await other.tryAcquire('Global\\scope'), await other.tryAcquire('scope')]
  assert.ok(global !== null && local !== null)
  for (const taken of ['Global\\scope', 'Local\\scope', 'scope']) assert.equal(folder.mutex(taken).tryAcquire(), null)
  await global.release()
  assert.ok(canTake(folder.mutex('Global\\scope')))
  assert.equal(folder.mutex('Local\\scope').tryAcquire(), null)
  for (const prefix of ['global\\', 'GLOBAL\\', 'local\\', 'LOCAL\\']) {
    assert.throws(() => folder.mutex(`${prefix}scope`), { code: 'ERR_MUTEX_INVALID_NAME' })
  }
})
