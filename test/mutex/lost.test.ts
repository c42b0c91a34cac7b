// A lock that ends under its living owner: somebody takes the lock file away. And what only looks like it.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import diagnostics from 'node:diagnostics_channel'
import { mkdirSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { type LostEvent, MutexLostError } from 'os-mutex'
import { kernelTells, untilQueued } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { isRoot } from '../support/second-user.ts'
import { careForAll } from '../support/upkeep.ts'

const name = 'Global\\mutex'
const onPosix = { skip: process.platform === 'win32' && 'a kernel object has no file that could be taken away' }
const forRoot = { skip: process.platform !== 'linux' || !isRoot ? 'only root can chroot, here tried on Linux' : false }

/** Warnings come in a turn of their own. */
async function warningsOf(work: () => void): Promise<Error[]> {
  const warnings: Error[] = []
  const listener = (warning: Error) => warnings.push(warning)
  process.on('warning', listener)
  work()
  await new Promise((resolve) => setImmediate(resolve))
  process.off('warning', listener)
  return warnings
}

type TakeAway = (file: string) => void
const ways: readonly (readonly [string, TakeAway])[] = [
  ['removed', (file) => unlinkSync(file)],
  ['renamed away', (file) => renameSync(file, `${file}.away`)],
  [
    'replaced',
    (file) => {
      writeFileSync(`${file}.other`, '')
      renameSync(`${file}.other`, file)
    },
  ],
]
for (const [how, takeAway] of ways) {
  test(
    `a lock whose file was ${how} is lost: its signal aborts at the next tick, with the reason`,
    onPosix,
    async () => {
      await using folder = new LockFolder()
      const mutex = folder.mutex(name)
      const lock = await mutex.acquire({ purpose: 'months of work' })
      const events: LostEvent[] = []
      const listener = (event: unknown) => events.push(event as LostEvent)
      diagnostics.subscribe('os-mutex:lost', listener)
      assert.equal(lock.lost.aborted, false)
      careForAll()
      assert.equal(lock.lost.aborted, false)
      takeAway(mutex.path)
      const warnings = await warningsOf(() => careForAll())
      diagnostics.unsubscribe('os-mutex:lost', listener)
      assert.equal(lock.lost.aborted, true)
      const { reason } = lock.lost
      assert.ok(reason instanceof MutexLostError)
      assert.deepEqual([reason.code, reason.mutexName, reason.path], ['ERR_MUTEX_LOST', name, mutex.path])
      assert.ok(reason.message.includes(mutex.path) && reason.message.includes('acquire it again'), reason.message)
      assert.deepEqual(events, [{ mutex: name, path: mutex.path, purpose: 'months of work' }])
      assert.deepEqual(warnings, [], 'who reads the signal needs no warning')
      lock.release()
    },
  )
}

test('report() and query() notice a lost lock, too, and say so once', onPosix, async () => {
  await using folder = new LockFolder()
  for (const look of ['report', 'query'] as const) {
    const mutex = folder.mutex(folder.uniqueName())
    const lock = await mutex.acquire()
    let heard = 0
    lock.lost.addEventListener('abort', () => heard++)
    unlinkSync(mutex.path)
    for (let round = 0; round < 2; round++) {
      if (look === 'report') lock.report({ done: 1 })
      else mutex.query()
    }
    careForAll()
    assert.equal(heard, 1, look)
    lock.release()
  }
})

test('a lost lock whose signal nobody has read gives a process warning', onPosix, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const lock = await mutex.acquire()
  unlinkSync(mutex.path)
  const warnings = (await warningsOf(() => careForAll())) as (Error & { code?: string })[]
  assert.deepEqual(
    warnings.map(({ name, code }) => [name, code]),
    [['MutexWarning', 'OS_MUTEX_LOST']],
  )
  assert.equal(lock.lost.aborted, true, 'read too late, it says so at once')
  lock.release()
})

test('a local lock is lost with its folder', onPosix, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex('local')
  const lock = await mutex.acquire()
  const { lost } = lock
  rmSync(join(mutex.path, '..'), { recursive: true })
  lock.report({ done: 1 })
  assert.equal(lost.aborted, true)
  lock.release()
})

test('the signal of a released lock never aborts, and the next lock starts with a new one', onPosix, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const first = await mutex.acquire()
  const { lost } = first
  first.release()
  unlinkSync(mutex.path)
  careForAll()
  assert.equal(lost.aborted, false)
  const second = await mutex.acquire()
  assert.equal(second.lost.aborted, false)
  assert.notEqual(second.lost, lost)
  second.release()
  assert.equal(first.lost.aborted, false)
})

test('a lock that waits behind a lost one gets the new file, and is not lost', onPosix, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const lost = await mutex.acquire()
  const waiting = mutex.acquire()
  unlinkSync(mutex.path)
  lost.release()
  const lock = await waiting
  careForAll()
  assert.equal(lock.lost.aborted, false)
  assert.equal(await (await folder.process()).tryAcquire(name), null)
  lock.release()
})

test('a process that has the removed file open takes the new one, as all others do', onPosix, async () => {
  await using folder = new LockFolder()
  const [mutex, owner] = [folder.mutex(name), await folder.process()]
  mutex.tryAcquire()?.release()
  await owner.acquire(name).lock
  assert.equal(mutex.tryAcquire(), null)
  unlinkSync(mutex.path)
  const lock = mutex.tryAcquire()
  assert.notEqual(lock, null)
  assert.equal(await (await folder.process()).tryAcquire(name), null, 'who comes then is excluded')
  lock?.release()
})

test('a wait for a file that is removed meanwhile begins again at the next tick', onPosix, async () => {
  await using folder = new LockFolder()
  const [mutex, owner] = [folder.mutex(name), await folder.process()]
  await owner.acquire(name).lock
  const acquires = [mutex.acquire(), mutex.acquire()]
  if (kernelTells) await untilQueued(mutex.path, process.pid)
  unlinkSync(mutex.path)
  careForAll()
  const other = await folder.process()
  for (const acquire of acquires) {
    const lock = await acquire
    assert.equal(await other.tryAcquire(name), null)
    lock.release()
  }
})

test(
  'an owner that changes its root directory does not see the name any more, and has lost nothing',
  forRoot,
  async () => {
    await using folder = new LockFolder()
    const [source, library] = [join(folder.path, 'chroot.c'), join(folder.path, 'chroot.so')]
    writeFileSync(
      source,
      '#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void change(void) {\n' +
        '  if (chroot(getenv("TEST_ROOT")) != 0 || chdir("/") != 0) abort();\n}\n',
    )
    const compiled = spawnSync(process.env.CC ?? 'gcc', ['-shared', '-fPIC', source, '-o', library], {
      encoding: 'utf8',
    })
    assert.equal(compiled.status, 0, compiled.stderr)
    const root = join(folder.path, 'root')
    mkdirSync(join(root, folder.path), { recursive: true })
    const owner = await folder.process({ env: { ...process.env, TEST_ROOT: root } })
    const lostThen = await owner.run(
      async ({ NamedMutex, directory, kept, fs }, name, library) => {
        const mutex = new NamedMutex(name, { directory })
        const lock = await mutex.acquire()
        kept.push(lock)
        // What is under the name in the new root is another file.
        fs.mkdirSync(directory, { recursive: true })
        try {
          process.dlopen({ exports: {} }, library)
        } catch {
          // It is no addon. Its constructor has run.
        }
        lock.report({ done: 1 })
        const missing = lock.lost.aborted
        fs.writeFileSync(mutex.path, '')
        lock.report({ done: 2 })
        return { missing, replaced: lock.lost.aborted }
      },
      name,
      library,
    )
    assert.deepEqual(lostThen, { missing: false, replaced: false })
    assert.equal(folder.mutex(name).tryAcquire(), null)
  },
)
