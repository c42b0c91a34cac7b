import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'

const name = 'Global\\told'
const kinds = ['acquire', 'wait', 'release', 'abandoned', 'timeout']

type Told = [kind: string, event: Record<string, unknown>]

/** Listens to all channels until it is disposed. */
class Listener implements Disposable {
  readonly #told: Told[] = []
  readonly #hear = (event: unknown, channel: string | symbol) => {
    this.#told.push([String(channel).replace('os-mutex:', ''), event as Record<string, unknown>])
  }

  constructor() {
    for (const kind of kinds) subscribe(`os-mutex:${kind}`, this.#hear)
  }

  /** What was told since the last time. */
  take(): Told[] {
    return this.#told.splice(0)
  }

  [Symbol.dispose](): void {
    for (const kind of kinds) unsubscribe(`os-mutex:${kind}`, this.#hear)
  }
}

const isTime = (value: unknown) => typeof value === 'number' && value >= 0 && value < 60_000

test('an acquire and a release are told, with the purpose and how long it took', async () => {
  await using folder = new LockFolder()
  using listener = new Listener()
  const mutex = folder.mutex(name)
  const uses = [
    () => mutex.acquire({ purpose: 'work' }),
    () => mutex.tryAcquire({ purpose: 'work' }),
    () => mutex.acquireSync({ purpose: 'work' }),
  ]
  for (const use of uses) {
    const lock = await use()
    assert.deepEqual(listener.take(), [['acquire', { mutex: name, purpose: 'work', waitedMs: 0, abandoned: false }]])
    lock?.release()
    lock?.release()
    const told = listener.take()
    assert.deepEqual(
      told.map(([kind]) => kind),
      ['release'],
    )
    assert.equal(told[0]?.[1].mutex, name)
    assert.ok(isTime(told[0]?.[1].heldMs))
  }
})

test('a wait is told when it begins, and the acquire that ends it says how long it was', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  using listener = new Listener()
  const acquire = folder.mutex(name).acquire()
  assert.deepEqual(listener.take(), [['wait', { mutex: name }]])
  await held.release()
  const lock = await acquire
  const { waitedMs } = lock
  const told = listener.take()
  assert.deepEqual(
    told.map(([kind]) => kind),
    ['acquire'],
    'at the latest when somebody asks how it was acquired',
  )
  assert.equal(told[0]?.[1].waitedMs, waitedMs)
  lock.release()
})

test('an abandonment is told to those who listen, with the previous owner', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name, { purpose: 'die' }).lock
  await owner.kill()
  using listener = new Listener()
  const lock = folder.mutex(name).tryAcquire()
  const told = listener.take()
  assert.deepEqual(
    told.map(([kind]) => kind),
    ['acquire', 'abandoned'],
  )
  assert.equal(told[0]?.[1].abandoned, true)
  assert.deepEqual(told[1]?.[1], { mutex: name, previousOwner: lock?.previousOwner })
  assert.equal(lock?.previousOwner?.pid, owner.pid)
  lock?.release()
})

test('a timeout is told with the limit and the owner; an abort and a failed try are not', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name).lock
  using listener = new Listener()
  const mutex = folder.mutex(name)
  const limits = [() => mutex.acquire({ timeoutMs: 5 }), async () => mutex.acquireSync({ timeoutMs: 5 })]
  for (const use of limits) {
    await assert.rejects(use, { code: 'ERR_MUTEX_TIMEOUT' })
    const told = listener.take()
    assert.deepEqual(
      told.map(([kind]) => kind),
      ['wait', 'timeout'],
    )
    assert.equal(told[1]?.[1].timeoutMs, 5)
    assert.equal((told[1]?.[1].owner as { pid: number } | undefined)?.pid, owner.pid)
  }
  await assert.rejects(mutex.acquire({ timeoutMs: 0 }), { code: 'ERR_MUTEX_TIMEOUT' })
  assert.deepEqual(
    listener.take().map(([kind]) => kind),
    ['timeout'],
  )
  assert.equal(mutex.tryAcquire(), null)
  assert.deepEqual(listener.take(), [])
  const acquire = mutex.acquire({ signal: AbortSignal.timeout(5) })
  await assert.rejects(acquire, { name: 'TimeoutError' })
  assert.deepEqual(
    listener.take().map(([kind]) => kind),
    ['wait'],
  )
})

test('a listener that throws harms neither the acquire nor the release', async () => {
  await using folder = new LockFolder()
  const party = await folder.process()
  // Node reports it as an uncaught exception, after the fact.
  const result = await party.run(async ({ mutex }, name) => {
    const { channel } = process.getBuiltinModule('node:diagnostics_channel')
    let caught = 0
    process.on('uncaughtException', () => caught++)
    for (const kind of ['acquire', 'wait', 'release']) {
      channel(`os-mutex:${kind}`).subscribe(() => {
        throw new Error('bad listener')
      })
    }
    const lock = await mutex(name).acquire()
    const next = mutex(name).acquire()
    lock.release()
    ;(await next).release()
    await new Promise((resolve) => setImmediate(resolve))
    return { caught, held: mutex(name).query().held }
  }, name)
  assert.deepEqual(result, { caught: 5, held: false })
})
