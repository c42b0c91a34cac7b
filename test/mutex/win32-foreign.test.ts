// In the default lock home a mutex has the very name that was given: any program that calls CreateMutex with it takes part.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { isQueue, mustBlock, unlessKernelTells } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { askForeign, Foreign, onWindows } from '../support/win32/foreign.ts'
import { mutexLine, objectNameOf } from '../support/win32/mutex-line.ts'

const unique = () => `os-mutex-test ${randomUUID()}`

for (const [what, prefix] of Object.entries({ Global: 'Global\\', Local: 'Local\\', plain: '' })) {
  test(`a program that calls CreateMutex with a ${what} name excludes us, and we exclude it`, onWindows, async () => {
    await using folder = new LockFolder()
    const name = prefix + unique()
    const party = await folder.processAtHome()
    await using owner = new Foreign('hold', name)
    await owner.says('held')
    assert.equal(await party.tryAcquire(name), null)
    assert.equal((await party.query(name)).held, true)
    await assert.rejects(party.acquire(name, { timeoutMs: 10 }).lock, { code: 'ERR_MUTEX_TIMEOUT', message: /held by/ })
    const acquire = party.acquire(name)
    await acquire.waiting
    await owner.letGo()
    const lock = await acquire.lock
    assert.equal(lock.abandoned, false)
    await using waiter = new Foreign('hold', name)
    await waiter.says('waiting')
    assert.equal(waiter.has('held'), false)
    await lock.release()
    await waiter.says('held')
    assert.equal(await party.tryAcquire(name), null)
    await waiter.letGo()
    const last = await party.tryAcquire(name)
    assert.equal(last?.abandoned, false)
  })
}

/** By every call that has to have the mutex. */
async function assertRefused(party: Party, name: string, error: object): Promise<void> {
  await assert.rejects(party.tryAcquire(name), error)
  await assert.rejects(party.acquire(name).lock, error)
  await assert.rejects(party.acquire(name, { sync: true }).lock, error)
  await assert.rejects(party.query(name), error)
}

test('Windows tells the other program of our death, and us of its death', onWindows, async () => {
  await using folder = new LockFolder()
  const name = `Global\\${unique()}`
  const [victim, next] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
  await victim.acquire(name).lock
  await using stranger = new Foreign('hold', name)
  await stranger.says('waiting')
  await victim.kill()
  await stranger.says('held abandoned')
  const acquire = next.acquire(name)
  await acquire.waiting
  await stranger.kill()
  const lock = await acquire.lock
  assert.equal(lock.abandoned, true)
  // Of the two deaths only ours left a record.
  assert.equal(lock.previousOwner?.pid, victim.pid)
  await lock.release()
  assert.equal((await next.acquire(name).lock).abandoned, false)
})

test('a program that dies owning is told as an abandonment by nobody known', onWindows, async () => {
  await using folder = new LockFolder()
  const name = `Global\\${unique()}`
  const party = await folder.processAtHome()
  await (await party.acquire(name).lock).release()
  await using stranger = new Foreign('hold', name)
  await stranger.says('held')
  await stranger.kill()
  const lock = await party.acquire(name).lock
  assert.equal(lock.abandoned, true)
  assert.equal(lock.previousOwner, undefined)
})

test(
  'an abort in just the moment of a grant leaves the death that Windows told of to the next owner',
  process.platform === 'win32' ? unlessKernelTells : onWindows,
  async () => {
    await using folder = new LockFolder()
    const name = 'Global\\told'
    const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
    for (const giveUp of ['abort', 'close'] as const) {
      await using stranger = new Foreign('hold', objectNameOf(path))
      await stranger.says('held')
      const [waiter, controller] = [folder.mutex(name), new AbortController()]
      const acquire = waiter.acquire({ signal: controller.signal })
      await mustBlock(acquire, path, process.pid)
      const killed = stranger.kill()
      while (!isQueue(path, [process.pid], [])); // so that the grant can't be heard of
      if (giveUp === 'abort') controller.abort(new Error('gave up'))
      else waiter.close()
      await assert.rejects(acquire)
      await killed
      const lock = mutex.tryAcquire()
      assert.equal(lock?.abandoned, true)
      lock?.release()
    }
  },
)

test(
  'who dies while nobody else has the mutex open is told by its record, once the kernel has forgotten it',
  onWindows,
  async () => {
    await using folder = new LockFolder()
    const name = `Global\\${unique()}`
    const [victim, next] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
    await victim.acquire(name, { purpose: 'die alone' }).lock
    await victim.kill()
    assert.equal(mutexLine(name)?.isHeld ?? false, false)
    const lock = await next.tryAcquire(name)
    assert.equal(lock?.abandoned, true)
    assert.equal(lock?.previousOwner?.pid, victim.pid)
    assert.equal(lock?.previousOwner?.purpose, 'die alone')
    await lock?.release()
    assert.equal((await next.tryAcquire(name))?.abandoned, false)
  },
)

test(
  'an abandonment that another program was told of is not told again to whoever was there before',
  onWindows,
  async () => {
    await using folder = new LockFolder()
    const name = `Global\\${unique()}`
    const [victim, next] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
    await victim.acquire(name).lock
    assert.equal(await next.tryAcquire(name), null, 'it has the mutex open now')
    await using stranger = new Foreign('hold', name)
    await stranger.says('waiting')
    await victim.kill()
    await stranger.says('held abandoned')
    const acquire = next.acquire(name)
    await acquire.waiting
    await stranger.letGo()
    const lock = await acquire.lock
    assert.deepEqual([lock.abandoned, lock.previousOwner], [false, undefined])
    await lock.release()
    // And the next death is told, with its record.
    await next.acquire(name, { purpose: 'die, too' }).lock
    await next.kill()
    const last = await (await folder.processAtHome()).acquire(name).lock
    assert.deepEqual([last.abandoned, last.previousOwner?.purpose], [true, 'die, too'])
  },
)

test(
  'a death that the kernel forgot is told also to whoever comes while another program holds the mutex',
  onWindows,
  async () => {
    await using folder = new LockFolder()
    const name = `Global\\${unique()}`
    const [victim, next] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
    await victim.acquire(name, { purpose: 'die alone' }).lock
    await victim.kill()
    await using stranger = new Foreign('hold', name)
    await stranger.says('held')
    const acquire = next.acquire(name)
    await acquire.waiting
    await stranger.letGo()
    const lock = await acquire.lock
    assert.deepEqual([lock.abandoned, lock.previousOwner?.purpose], [true, 'die alone'])
    await lock.release()
    assert.equal((await next.tryAcquire(name))?.abandoned, false)
  },
)

test(
  'a death that the kernel forgot is told to one owner only, of several who have the mutex open',
  onWindows,
  async () => {
    await using folder = new LockFolder()
    const name = `Global\\${unique()}`
    const [victim, one, other] = await Promise.all([
      folder.processAtHome(),
      folder.processAtHome(),
      folder.processAtHome(),
    ])
    await victim.acquire(name).lock
    await victim.kill()
    await using stranger = new Foreign('hold', name)
    await stranger.says('held')
    for (const party of [one, other]) assert.equal(await party.tryAcquire(name), null)
    await stranger.letGo()
    const told: boolean[] = []
    for (const party of [one, other, one, other]) {
      const lock = await party.acquire(name).lock
      told.push(lock.abandoned)
      await lock.release()
    }
    assert.deepEqual(told, [true, false, false, false])
  },
)

test('an abandonment that the kernel remembers is told once', onWindows, async () => {
  await using folder = new LockFolder()
  const name = `Global\\${unique()}`
  await using keeper = new Foreign('keep', name)
  await keeper.says('made')
  const [victim, next] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
  await victim.acquire(name).lock
  await victim.kill()
  const lock = await next.tryAcquire(name)
  assert.equal(lock?.abandoned, true)
  assert.equal(lock?.previousOwner?.pid, victim.pid)
  await lock?.release()
  assert.equal((await next.tryAcquire(name))?.abandoned, false)
})

test('a name that an event has is refused as taken, by every way to use the mutex', onWindows, async () => {
  await using folder = new LockFolder()
  const name = `Global\\${unique()}`
  await using event = new Foreign('event', name)
  await event.says('made')
  const party = await folder.processAtHome()
  const taken = { code: 'ERR_MUTEX_NAME_TAKEN', name: 'MutexError', message: /another name/ }
  await assertRefused(party, name, taken)
  await event.letGo()
  assert.notEqual(await party.tryAcquire(name), null, 'once it is gone, all is well')
})

test('a mutex that another program made for itself alone is refused, with what to do', onWindows, async () => {
  await using folder = new LockFolder()
  const name = `Global\\${unique()}`
  // For the local system account alone.
  await using narrow = new Foreign('guarded', name, 'D:P(A;;0x001F0001;;;LS)')
  await narrow.says('made')
  const party = await folder.processAtHome()
  const denied = {
    code: 'ERR_MUTEX_ACCESS_DENIED',
    name: 'MutexAccessError',
    message: /SYNCHRONIZE and MUTEX_MODIFY_STATE/,
  }
  await assertRefused(party, name, denied)
  await narrow.letGo()
  assert.notEqual(await party.tryAcquire(name), null, 'once it is gone, all is well')
})

test('the rights to wait and to release are all that we ask for', onWindows, async () => {
  await using folder = new LockFolder()
  const name = `Global\\${unique()}`
  await using modest = new Foreign('guarded', name, 'D:P(A;;0x00100001;;;WD)')
  await modest.says('made')
  const party = await folder.processAtHome()
  const lock = await party.tryAcquire(name)
  assert.ok(lock)
  assert.equal((await party.query(name)).held, true)
  await lock.release()
})

// What Windows itself keeps under these names, it keeps.
const special = [
  'Global',
  'Local',
  'Session',
  'Restricted',
  'AppContainerNamedObjects',
  'global',
  'SESSION',
  'con',
  'NUL',
  'x.',
  'y ',
]
for (const base of special) {
  test(`${JSON.stringify(base)} is a mutex like any other, in both scopes of the default home`, onWindows, async () => {
    await using folder = new LockFolder()
    const [one, other] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
    for (const name of [base, `Global\\${base}`]) {
      const lock = await one.tryAcquire(name)
      assert.ok(lock)
      assert.equal(await other.tryAcquire(name), null)
      assert.equal((await other.query(name)).owner?.pid, one.pid)
      const acquire = other.acquire(name)
      await acquire.waiting
      await lock.release()
      await (await acquire.lock).release()
    }
    assert.notEqual(await one.tryAcquire(base), null)
    assert.notEqual(await other.tryAcquire(`Global\\${base}`), null, 'the scopes are two')
  })
}

test('names that Windows folds or drops are mutexes of their own', onWindows, async () => {
  await using folder = new LockFolder()
  const party = await folder.processAtHome()
  const base = unique()
  for (const name of [base, base.toUpperCase(), `${base}.`, `${base} `, ` ${base}`, `Global\\${base}`]) {
    assert.notEqual(await party.tryAcquire(name), null, name)
  }
  assert.equal(readdirSync(join(folder.path, 'os-mutex')).length, 6)
})

test('mutexes of another lock home do not meet those of the default one', onWindows, async () => {
  await using folder = new LockFolder()
  const name = `Global\\${unique()}`
  await using stranger = new Foreign('hold', name)
  await stranger.says('held')
  using lock = folder.mutex(name).tryAcquire()
  assert.ok(lock)
  assert.equal(askForeign('line', name).split(' ')[0] === '0', false)
})
