// A wait ends by its signal, with the signal's own reason, and leaves nothing behind.
import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { assertQueue, isQueue, kernelTells, kernelTellsPids, mustBlock } from '../support/kernel-queue.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'

const name = 'Global\\abort'

// On Windows a look takes a process of its own: in a loop, some of them must do.
const looksAt = (round: number) => kernelTells && (kernelTellsPids || round % 25 === 0)

test("a signal ends the wait with its own reason, and leaves the others' places alone", async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const mutex = folder.mutex(name)
  const controllers = Array.from({ length: 5 }, () => new AbortController())
  const acquires = controllers.map(({ signal }) => mutex.acquire({ signal }))
  await mustBlock(Promise.race(acquires), folder.fileOf(name), process.pid)
  const reasons = [new Error('changed my mind'), 'a string', undefined, Symbol('odd'), 5]
  // The first is the one whose request is in the kernel's line.
  for (const index of [0, 2, 4]) {
    controllers[index]?.abort(reasons[index])
    await assert.rejects(acquires[index] ?? assert.fail(), (reason) => reason === controllers[index]?.signal.reason)
  }
  await mustBlock(Promise.race([acquires[1], acquires[3]]), folder.fileOf(name), process.pid)
  await held.release()
  const lock = await acquires[1]
  assert.equal(mutex.tryAcquire(), null)
  lock?.release()
  ;(await acquires[3])?.release()
})

test('a signal that was aborted before refuses even a free mutex; aborted after, it changes nothing', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const reason = new Error('too late')
  await assert.rejects(mutex.acquire({ signal: AbortSignal.abort(reason) }), (error) => error === reason)
  assert.deepEqual(mutex.query(), { held: false })
  const controller = new AbortController()
  const lock = await mutex.acquire({ signal: controller.signal })
  controller.abort()
  assert.equal(lock.released, false)
  assert.equal(folder.mutex(name).tryAcquire(), null)
  lock.release()
})

test('AbortSignal.timeout() and AbortSignal.any() are signals', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const held = mutex.tryAcquire()
  await assert.rejects(mutex.acquire({ signal: AbortSignal.timeout(10) }), { name: 'TimeoutError' })
  const controller = new AbortController()
  const acquire = mutex.acquire({ signal: AbortSignal.any([controller.signal, AbortSignal.timeout(60_000)]) })
  controller.abort(new Error('mine'))
  await assert.rejects(acquire, /mine/)
  held?.release()
})

test('waits that ended leave no listener on their signal', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const { signal } = new AbortController()
  const held = mutex.tryAcquire()
  const granted = mutex.acquire({ signal })
  await assert.rejects(mutex.acquire({ signal, timeoutMs: 5 }), { code: 'ERR_MUTEX_TIMEOUT' })
  assert.equal(getEventListeners(signal, 'abort').length, 1)
  held?.release()
  ;(await granted).release()
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})

test('after an abort nobody is a phantom owner, not for a moment: a thousand times', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const [mutex, owner] = [folder.mutex(name), folder.mutex(name)]
  const path = folder.fileOf(name)
  // In this process: abort and release in one turn, in either order, and the next try must have it at once.
  for (let round = 0; round < 700; round++) {
    const held = owner.tryAcquire()
    assert.ok(held, `round ${round}`)
    const controller = new AbortController()
    const acquire = mutex.acquire({ signal: controller.signal })
    acquire.catch(() => {})
    if (round % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
    if (round % 2 === 0) {
      controller.abort()
      held.release()
    } else {
      held.release()
      if (round % 5 === 0) while (looksAt(round) && !isQueue(path, [process.pid], []));
      controller.abort()
    }
    await assert.rejects(acquire, { name: 'AbortError' })
  }
  owner.tryAcquire()?.release()
  // Against another process: its release races with our abort, and then its own try must succeed.
  for (let round = 0; round < 300; round++) {
    const held = await other.tryAcquire(name)
    assert.ok(held, `round ${round}`)
    const controller = new AbortController()
    const acquire = mutex.acquire({ signal: controller.signal }).then(
      (lock) => lock.release(),
      (error: Error) => assert.equal(error.name, 'AbortError'),
    )
    const released = held.release()
    if (round % 3 > 0) await new Promise((resolve) => setImmediate(resolve))
    if (round % 3 > 1) await new Promise((resolve) => setImmediate(resolve))
    controller.abort()
    await Promise.all([acquire, released])
    if (looksAt(round)) assertQueue(path, [], [], `round ${round}`)
  }
})

test('one signal may end any number of waits, and Node warns of no leak', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex('fan-out')
  const warnings: string[] = []
  const listen = (warning: Error) => warnings.push(warning.name)
  process.on('warning', listen)
  const lock = await mutex.acquire()
  const controller = new AbortController()
  const waits = Array.from({ length: 50 }, () => mutex.acquire({ signal: controller.signal }))
  controller.abort(new Error('enough'))
  for (const wait of waits) await assert.rejects(wait, { message: 'enough' })
  await new Promise((resolve) => setImmediate(resolve)) // warnings come in a later turn
  process.off('warning', listen)
  assert.deepEqual(warnings, [])
  assert.equal(getEventListeners(controller.signal, 'abort').length, 0)
  lock.release()
})

test('a signal whose listener can be neither added nor removed fails that acquire, and leaves no request in line', async () => {
  await using folder = new LockFolder()
  const [mutex, owner] = [folder.mutex(name), await folder.process()]
  const held = await owner.acquire(name).lock
  const odd = (add: () => void, remove: () => void) =>
    ({ aborted: false, addEventListener: add, removeEventListener: remove }) as unknown as AbortSignal
  const refuse = () => {
    throw new Error('not with me')
  }
  await assert.rejects(mutex.acquire({ signal: odd(refuse, refuse) }), { message: 'not with me' })
  await assert.rejects(mutex.acquire({ signal: odd(() => {}, refuse), timeoutMs: 10 }), { code: 'ERR_MUTEX_TIMEOUT' })
  await held.release()
  assert.ok(canTake(folder.mutex(name)), 'nobody got the lock in secret')
  assert.ok(canTake(mutex))
})

test('an acquire rejects with the very reason of its signal, also with null', async () => {
  await using folder = new LockFolder()
  const held = folder.mutex(name).tryAcquire()
  for (const reason of [null, 0, '']) {
    const controller = new AbortController()
    const end = folder
      .mutex(name)
      .acquire({ signal: controller.signal })
      .catch((error: unknown) => [error])
    controller.abort(reason)
    assert.deepEqual(await end, [reason])
  }
  held?.release()
})

test('a signal that is made of others ends the wait as well', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  using _held = mutex.tryAcquire()
  const controller = new AbortController()
  const acquire = mutex.acquire({ signal: AbortSignal.any([controller.signal, new AbortController().signal]) })
  controller.abort(new Error('one of two'))
  await assert.rejects(acquire, { message: 'one of two' })
})
