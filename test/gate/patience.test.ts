// How long a waiter of the gate is patient: a damaged record is neither progress nor a new owner.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import type { MutexState } from 'os-mutex'
import { kernelTellsPids } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { startedIn, withNamespaces } from '../support/namespaces.ts'

type Waiting = typeof import('../../dist/llama/wait/progressing-wait.js')
const { acquireWhileProgressing } = (await import(
  new URL('./llama/wait/progressing-wait.js', import.meta.resolve('os-mutex')).href
)) as Waiting

const name = 'Global\\patience'
const ifKernelTellsPids = kernelTellsPids ? {} : { skip: 'only Linux tells the pid of an owner without a record' }

/** Waits in vain, and gives what each look at the end of the limit saw. `atLook` is called before each. */
async function looksOf(folder: LockFolder, limitMs: number, atLook: (look: number) => void): Promise<MutexState[]> {
  const mutex = folder.mutex(name)
  const looks: MutexState[] = []
  const look = mutex.query.bind(mutex)
  mutex.query = () => {
    atLook(looks.length)
    looks.push(look())
    return looks.at(-1) as MutexState
  }
  await assert.rejects(
    acquireWhileProgressing(mutex, {
      limitMs,
      extendWhileProgressing: true,
      purpose: 'wait',
      timeoutError: ({ owner }) => new Error(`out of patience with ${owner?.pid}`),
    }),
    /out of patience with \d+/,
  )
  return looks
}

test(
  'an owner whose record is damaged while somebody waits does not get the limit anew',
  ifKernelTellsPids,
  async () => {
    await using folder = new LockFolder()
    const owner = await folder.process()
    await owner.acquire(name, { purpose: 'hangs' }).lock
    // The acquire itself has seen the whole record before.
    const looks = await looksOf(folder, 50, (look) => look === 0 && writeFileSync(folder.fileOf(name), 'damaged'))
    assert.deepEqual(
      looks.map(({ owner }) => [owner?.pid, owner?.purpose]),
      [[owner.pid, undefined]],
    )
  },
)

test("a container's owner that gets on keeps the waiters outside patient", withNamespaces, async () => {
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
    acquireWhileProgressing(mutex, {
      limitMs: 1000,
      extendWhileProgressing: true,
      purpose: 'wait',
      timeoutError: ({ owner }) => new Error(`stopped at ${owner?.progress?.done}`),
      onLook: (owner) => void seen.push(owner?.progress?.done),
    }),
    { message: 'stopped at 20' },
  )
  assert.ok(seen.includes(20), 'its figures are seen, too')
})
