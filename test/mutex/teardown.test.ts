import assert from 'node:assert/strict'
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { MutexLock } from 'os-mutex'
import { assertQueue, kernelTells, unlessKernelTells, untilQueued } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { ifCountable, resources, spareHandles } from '../support/resources.ts'
import { withPromptSend, withTerminate } from '../support/runtimes.ts'
import { isAmidWaiting, type Stage, stages } from '../support/stages.ts'
import { started } from '../support/start.ts'
import { until } from '../support/until.ts'

const program = new URL('../support/stages.js', import.meta.url)
const name = 'Global\\teardown'
/** With and without a race, and where the kernel tells of its queue, each of them once it has the wait and at any moment. */
const rounds = kernelTells ? 4 : 2

const owning: readonly Stage[] = ['holding', 'closed', 'querying']

/**
 * Proves that nobody waits any more, that the mutex can be had, and that just the environments that owned it abandoned it.
 * `isRace`: it may have become the owner in the last moment.
 */
async function isFree(folder: LockFolder, stage: Stage, held: MutexLock | null, isRace: boolean): Promise<void> {
  held?.release()
  const lock = await folder.mutex(name).acquire({ timeoutMs: 10_000 })
  if (!isRace) assert.equal(lock.abandoned, owning.includes(stage))
  if (kernelTells) assertQueue(folder.fileOf(name), [process.pid], [])
  lock.release()
}

/** Code that never comes to an end, or a blocked thread, can't exit by itself. */
function canExit(stage: Stage, kind: 'process' | 'thread'): boolean {
  if (stage === 'in acquireSync') return false
  return kind === 'process' || !['in native calls', 'querying', 'granted but not told'].includes(stage)
}

/** A worker that does not come back to its event loop, or not soon. */
function isBusy(stage: Stage): boolean {
  return ['in native calls', 'querying', 'granted but not told', 'in acquireSync', 'in a crowd'].includes(stage)
}

for (const stage of stages) {
  for (const way of ['worker.terminate()', 'process.exit()'] as const) {
    if (way === 'process.exit()' && !canExit(stage, 'thread')) continue
    test(
      `a worker ended by ${way} ${stage} leaves the mutex to others, and its process well`,
      isBusy(stage) || way === 'worker.terminate()' ? withTerminate : {},
      async () => {
        for (let round = 0; round < rounds; round++) {
          await using folder = new LockFolder()
          const held = isAmidWaiting(stage) ? folder.mutex(name).tryAcquire() : null
          const worker = new Worker(program, { argv: [stage, folder.path, name, '7'] })
          await once(worker, 'message')
          if (held !== null && kernelTells && round % 2 === 0) await untilQueued(folder.fileOf(name), process.pid)
          if (stage === 'granted but not told') held?.release()
          const ended = once(worker, 'exit')
          const startedAt = performance.now()
          if (way === 'worker.terminate()') void worker.terminate()
          else worker.postMessage('exit')
          // Released while the worker is being ended, in some rounds: its grant comes in the middle of that.
          const isRace =
            stage === 'in native calls' || (held !== null && stage !== 'granted but not told' && round % 3 === 0)
          if (isRace) held?.release()
          const [code] = await ended
          assert.equal(code, way === 'process.exit()' ? 7 : 1)
          assert.ok(performance.now() - startedAt < 5000)
          await isFree(folder, stage, held, isRace)
        }
      },
    )
  }

  if (!canExit(stage, 'process')) continue
  test(
    `a process that calls process.exit() ${stage} ends at once, with its exit code`,
    stage === 'granted but not told' ? { ...unlessKernelTells, ...withPromptSend } : {},
    async () => {
      await using folder = new LockFolder()
      const held = isAmidWaiting(stage) ? folder.mutex(name).tryAcquire() : null
      const stdio = ['ignore' as const, 'inherit' as const, 'inherit' as const, 'ipc' as const]
      const child = started(() => fork(fileURLToPath(program), [stage, folder.path, name, '7'], { stdio }))
      const ended = once(child, 'exit')
      await once(child, 'message')
      if (held !== null && kernelTells) await untilQueued(folder.fileOf(name), child.pid ?? 0)
      const startedAt = performance.now()
      if (stage === 'granted but not told') held?.release()
      else child.send('exit')
      assert.deepEqual(await ended, [7, null])
      assert.ok(performance.now() - startedAt < 5000)
      // A process that exits owning, if unheard, has abandoned the mutex by Windows' own word.
      const mayBeOwner = stage === 'granted but not told' && process.platform === 'win32'
      await isFree(folder, stage, held, stage === 'in native calls' || mayBeOwner)
    },
  )
}

test(
  'a worker that is terminated while it is starting and loading does no harm, whenever that is',
  withTerminate,
  async () => {
    await using folder = new LockFolder()
    for (let round = 0; round < 30; round++) {
      const worker = new Worker(program, { argv: ['in native calls', folder.path, name, '7'] })
      await once(worker, 'online')
      const startedAt = performance.now()
      while (performance.now() - startedAt < round);
      await worker.terminate()
    }
    const lock = await folder.mutex(name).acquire({ timeoutMs: 10_000 })
    lock.release()
  },
)

test('a process can exit while its worker threads are blocked in acquireSync or wait', async () => {
  await using folder = new LockFolder()
  const held = folder.mutex(name).tryAcquire()
  const code = `
    const { Worker } = require('node:worker_threads')
    const stages = ['in acquireSync', 'in acquireSync', 'waiting', 'in a crowd', 'in native calls']
    const there = stages.map((stage) => new Promise((resolve) => {
      const worker = new Worker(new URL(${JSON.stringify(program.href)}), { argv: [stage, ${JSON.stringify(folder.path)}, ${JSON.stringify(name)}, '7'] })
      worker.once('message', resolve)
    }))
    Promise.all(there).then(() => process.exit(9))`
  const child = started(() => spawn(process.execPath, ['-e', code], { stdio: 'inherit' }))
  assert.deepEqual(await once(child, 'exit'), [9, null])
  held?.release()
  assert.equal((await folder.nextOwner(name)).abandoned, false)
})

test('a process whose main thread does not use mutexes can end workers that do', async () => {
  await using folder = new LockFolder()
  using held = await folder.mutex(name).acquire()
  assert.equal(held.released, false)
  const party = await folder.process()
  // It is the test's other party that has loaded the package; this child has not.
  const code = `
    const { Worker } = require('node:worker_threads')
    const end = async (stage) => {
      const worker = new Worker(new URL(${JSON.stringify(program.href)}), { argv: [stage, ${JSON.stringify(folder.path)}, ${JSON.stringify(name)}, '7'] })
      await new Promise((resolve) => worker.once('message', resolve))
      await worker.terminate()
    }
    Promise.resolve().then(async () => {
      for (let round = 0; round < 5; round++) for (const stage of ['waiting', 'loaded', 'in a crowd', 'in acquireSync']) await end(stage)
      await Promise.all([end('waiting'), end('in a crowd'), end('in a time limit')])
    })`
  const status = await party.run(
    ({ spawn }, node, code) =>
      new Promise<[number | null, string | null]>((resolve) => {
        spawn(node, ['-e', code], { stdio: 'inherit' }).once('exit', (status, signal) => resolve([status, signal]))
      }),
    process.execPath,
    code,
  )
  assert.deepEqual(status, [0, null])
})

test(
  '60 workers that come and go over shared mutexes leave no descriptor and no thread behind',
  ifCountable,
  async () => {
    await using folder = new LockFolder()
    const names = Array.from({ length: 5 }, () => folder.uniqueName())
    let before = { handles: 0, threads: 0 }
    for (let batch = 0; batch < 7; batch++) {
      if (batch === 1) before = resources() // after a first round for warming up
      const parties = await Promise.all(Array.from({ length: 10 }, () => folder.thread()))
      const work = parties.map((party, index) =>
        party.run(
          async ({ mutex, kept }, names, end) => {
            for (const name of names) await mutex(name).withLock(() => new Promise((resolve) => setImmediate(resolve)))
            if (end === 0) kept.push(await mutex(names[0] ?? '').acquire())
            if (end === 1) process.exit(0)
            if (end === 2) {
              for (const name of names)
                void mutex(name)
                  .acquire({ timeoutMs: 60_000 })
                  .then((lock) => kept.push(lock))
            }
          },
          [...names.slice(index % 5), ...names.slice(0, index % 5)],
          index % 4,
        ),
      )
      await Promise.all(
        parties.map(async (party, index) => {
          await work[index]?.catch(() => {})
          await party.kill()
        }),
      )
    }
    for (const one of names) (await folder.mutex(one).acquire({ timeoutMs: 10_000 })).release()
    await until('descriptors and threads are back', () => {
      const now = resources()
      return now.handles <= before.handles + names.length * 3 + spareHandles && now.threads <= before.threads
    })
  },
)
