// How long a waiter of the gate is patient: only progress renews it, over all the locks that one call waits for.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import type { OwnerInfo } from 'os-mutex'
import { kernelTellsPids } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { startedIn, withNamespaces } from '../support/namespaces.ts'
import { withStarters } from '../support/runtimes.ts'

const internal = (file: string): Promise<unknown> =>
  import(new URL(`./llama/wait/${file}`, import.meta.resolve('os-mutex')).href)
const { acquirePatiently } = (await internal(
  'progressing-wait.js',
)) as typeof import('../../dist/llama/wait/progressing-wait.js')
const { Patience } = (await internal('patience.js')) as typeof import('../../dist/llama/wait/patience.js')
type Patience = InstanceType<typeof Patience>

const name = 'Global\\patience'
const LIMIT_MS = 60_000

/** An owner that has reported `done` in its `sequence`th report, just now by its own word. */
function owner(pid: number, done: number, sequence = 1, unit = '%'): OwnerInfo {
  return { pid, since: pid, progress: { done, unit, sequence, monotonicMs: Number.MAX_SAFE_INTEGER } }
}

/** Whether a look at this owner starts the limit again. Time passes before it, so that the difference shows. */
function isRenewedBy(patience: Patience, seen: OwnerInfo | undefined): boolean {
  const until = performance.now() + 3
  while (performance.now() < until);
  return patience.look(seen) === LIMIT_MS
}

function patience(options: { beginsAtZero?: boolean; extendWhileProgressing?: boolean } = {}): Patience {
  return new Patience({ limitMs: LIMIT_MS, extendWhileProgressing: true, ...options })
}

test('progress of the owner starts the limit again; a report without any, or a damaged record, does not', () => {
  const waiter = patience()
  waiter.begin(owner(1, 10))
  assert.equal(isRenewedBy(waiter, owner(1, 10, 2)), false)
  assert.equal(isRenewedBy(waiter, owner(1, 11, 3)), true)
  assert.equal(isRenewedBy(waiter, { pid: 1 }), false)
  assert.equal(isRenewedBy(waiter, undefined), false)
  assert.equal(isRenewedBy(waiter, owner(1, 11, 4)), false)
  // It began again, at what counts from there.
  assert.equal(isRenewedBy(waiter, owner(1, 2, 5)), false)
  assert.equal(isRenewedBy(waiter, owner(1, 3, 6)), true)
})

test('a new owner does not start the limit again, nor do the bytes that it took over', () => {
  const waiter = patience()
  waiter.begin(owner(1, 10))
  assert.equal(isRenewedBy(waiter, { pid: 2, since: 2 }), false)
  assert.equal(isRenewedBy(waiter, owner(2, 50)), false)
  assert.equal(isRenewedBy(waiter, owner(3, 50)), false)
  assert.equal(isRenewedBy(waiter, owner(3, 51)), true)
})

test('a load begins at 0: a new owner above that has made progress', () => {
  const waiter = patience({ beginsAtZero: true })
  waiter.begin(owner(1, 90))
  assert.equal(isRenewedBy(waiter, owner(2, 0)), false)
  assert.equal(isRenewedBy(waiter, owner(3, 1)), true)
  // From hashing on to loading.
  assert.equal(isRenewedBy(waiter, owner(3, 4_000, 2, 'bytes')), false)
  assert.equal(isRenewedBy(waiter, owner(3, 400_000, 3, 'bytes')), true)
  assert.equal(isRenewedBy(waiter, owner(3, 0.5, 4)), true)
})

test('without extension nothing starts the limit again', () => {
  const waiter = patience({ extendWhileProgressing: false, beginsAtZero: true })
  waiter.begin(owner(1, 10))
  assert.equal(isRenewedBy(waiter, owner(1, 11, 2)), false)
  assert.equal(isRenewedBy(waiter, owner(2, 12)), false)
})

test('two waits share one limit, and what is done between them does not count', async () => {
  await using folder = new LockFolder()
  const [first, second] = [folder.uniqueName(), folder.uniqueName()]
  const holds = [first, second].map((name) => folder.mutex(name).tryAcquire())
  const waiter = new Patience({ limitMs: 400, extendWhileProgressing: true })
  const wait = (name: string, onWait: () => void) =>
    acquirePatiently(folder.mutex(name), waiter, { purpose: 'wait', timeoutError: () => new Error('too long'), onWait })
  const begun = performance.now()
  const lock = await wait(first, () => setTimeout(() => holds[0]?.release(), 200))
  const waitedMs = performance.now() - begun
  assert.ok(waiter.unusedMs <= 400 - Math.floor(waitedMs - 60), `${waiter.unusedMs} ms left after ${waitedMs} ms`)
  const { unusedMs } = waiter
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal(waiter.unusedMs, unusedMs)
  const startedAt = performance.now()
  await assert.rejects(
    wait(second, () => {}),
    /too long/,
  )
  assert.ok(performance.now() - startedAt < 400)
  assert.ok(waiter.unusedMs <= 0)
  // With nothing left, what is free is still taken.
  holds[1]?.release()
  ;(await wait(second, () => {})).release()
  lock.release()
})

test(
  'an owner whose record is damaged while somebody waits is named by the kernel, and renews nothing',
  kernelTellsPids ? {} : { skip: 'only Linux tells the pid of an owner without a record' },
  async () => {
    await using folder = new LockFolder()
    const owner = await folder.process()
    await owner.acquire(name, { purpose: 'hangs' }).lock
    await assert.rejects(
      acquirePatiently(folder.mutex(name), new Patience({ limitMs: 50, extendWhileProgressing: true }), {
        purpose: 'wait',
        timeoutError: ({ owner }) => new Error(`out of patience with ${owner?.pid}, ${owner?.purpose}`),
        // The acquire itself has seen the whole record before.
        onWait: () => writeFileSync(folder.fileOf(name), 'damaged'),
      }),
      { message: `out of patience with ${owner.pid}, undefined` },
    )
  },
)

test('the error of a wait that took too long has the stack of its caller, and listeners are told', async () => {
  await using folder = new LockFolder()
  using _held = folder.mutex(name).tryAcquire()
  async function theCaller() {
    return await acquirePatiently(folder.mutex(name), new Patience({ limitMs: 20, extendWhileProgressing: true }), {
      purpose: 'wait',
      timeoutError: () => new Error('too long'),
    })
  }
  const events: unknown[] = []
  const listen = (event: unknown) => events.push(event)
  subscribe('os-mutex:timeout', listen)
  await assert.rejects(theCaller(), ({ stack }: Error) => /theCaller/.test(stack ?? ''))
  unsubscribe('os-mutex:timeout', listen)
  const [event] = events as { mutex: string; timeoutMs: number; owner: OwnerInfo }[]
  assert.deepEqual([events.length, event?.mutex, event?.timeoutMs, event?.owner.pid], [1, name, 20, process.pid])
})

test("a container's owner that gets on keeps the waiters outside patient", {
  ...withNamespaces,
  ...withStarters,
}, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process(startedIn({ pids: 'own' }))
  const mutex = folder.mutex(name)
  await owner.run(({ mutex, kept }, name) => {
    const lock = mutex(name).tryAcquire({ purpose: 'download' })
    let done = 0
    // Ends with the twentieth report.
    const timer = setInterval(() => {
      done++
      lock?.report({ done })
      if (done === 20) clearInterval(timer)
    }, 100)
    kept.push(lock)
  }, name)
  const seen: (number | undefined)[] = []
  await assert.rejects(
    acquirePatiently(mutex, new Patience({ limitMs: 1000, extendWhileProgressing: true }), {
      purpose: 'wait',
      timeoutError: ({ owner }) => new Error(`stopped at ${owner?.progress?.done}`),
      onLook: (owner) => void seen.push(owner?.progress?.done),
    }),
    { message: 'stopped at 20' },
  )
  assert.ok(seen.includes(20), 'its figures are seen, too')
})
