// The named mutex as .NET documents System.Threading.Mutex, on every platform. Sources, each test begins with its own:
//   Mutex         https://learn.microsoft.com/dotnet/api/system.threading.mutex
//   ReleaseMutex  https://learn.microsoft.com/dotnet/api/system.threading.mutex.releasemutex
//   WaitOne       https://learn.microsoft.com/dotnet/api/system.threading.waithandle.waitone
//   Abandoned     https://learn.microsoft.com/dotnet/api/system.threading.abandonedmutexexception
//   MutexTests    github.com/dotnet/runtime, src/libraries/System.Threading/tests/MutexTests.cs (the scenario of that name)
//
// | clause | test |
// |---|---|
// | exclusive access, among threads and processes | exclusion.test.ts (MutexTests: MutualExclusionTest, CrossProcess_…) |
// | several objects for one named mutex (OpenExisting) | conformance-win32.test.ts: "to create a mutex that exists opens it …" |
// | WaitOne(0), WaitOne(n), WaitOne() and WaitOne(-1) | here; conformance-win32.test.ts for the state that a time-out leaves |
// | the owner may call WaitOne again without blocking | not so, by design: here, deadlock.test.ts |
// | ReleaseMutex by whoever does not own: ApplicationException | there is no such call: here, release.test.ts |
// | abandoned: by a thread's end, exit, kill | here with living children; crash.test.ts for every way |
// | AbandonedMutexException, once, with ownership | a success with `abandoned: true`, by design: here, crash.test.ts |
// | the same of WaitAll | acquire-all.test.ts: "it tells when the owner of any of them had died" |
// | Dispose while owned | the lock stays held, by design: here, release.test.ts |
// | the name lives while a handle lives | here |
// | Global\, Local\ and no prefix, in sessions | here; scopes.test.ts for two users |
// | backslash in a name | names.test.ts, conformance-win32.test.ts |
// | restricted to a user (NamedWaitHandleOptions, MutexSecurity) | Local\ on POSIX: here, scopes.test.ts; win32-security.test.ts |
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { NamedMutex } from 'os-mutex'
import { mustBlock } from '../support/kernel-queue.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { withTerminate } from '../support/runtimes.ts'
import { secondUser, withSecondUser } from '../support/second-user.ts'

const name = 'Global\\dotnet'

// --- Waiting --------------------------------------------------------------------------------------------------------

test('WaitOne: true when it is signaled, false when the interval elapses, and no further attempt is made after that', async () => {
  await using folder = new LockFolder()
  const [owner, thread, next] = await Promise.all([folder.process(), folder.thread(), folder.process()])
  const held = await owner.acquire(name).lock
  for (const timeoutMs of [0, 1, 30]) {
    const wait = thread.acquire(name, { timeoutMs, sync: true })
    await assert.rejects(wait.lock, { code: 'ERR_MUTEX_TIMEOUT', timeoutMs })
  }
  const waiting = thread.acquire(name, { sync: true })
  await mustBlock(waiting.lock, folder.fileOf(name), thread.pid)
  await held.release()
  await (await waiting.lock).release()
  assert.notEqual(await next.tryAcquire(name), null, 'those who gave up do not come back')
})

test('WaitOne: -1 is Infinite there; here Infinity is, and every negative number is refused and takes nothing', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  for (const timeoutMs of [-1, -2]) {
    assert.throws(() => mutex.acquireSync({ timeoutMs }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    await assert.rejects(mutex.acquire({ timeoutMs }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    assert.deepEqual(mutex.query(), { held: false })
  }
})

test('Mutex, remarks: the owner may request it again there; here nobody gets it twice, and one release frees it', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const mutex = folder.mutex(name)
  const lock = mutex.acquireSync()
  assert.equal(mutex.tryAcquire(), null)
  assert.throws(() => mutex.acquireSync(), { code: 'ERR_MUTEX_DEADLOCK' })
  const second = mutex.acquire()
  lock.release()
  const granted = await second
  assert.equal(await other.tryAcquire(name), null)
  granted.release()
  assert.notEqual(await other.tryAcquire(name), null)
})

// --- Releasing ------------------------------------------------------------------------------------------------------

test('ReleaseMutex: only the owner can; here whoever has the lock object, which no other thread can be given', async () => {
  await using folder = new LockFolder()
  const thread = await folder.thread()
  const mutex = folder.mutex(name)
  const lock = mutex.tryAcquire()
  assert.ok(lock)
  assert.equal('release' in NamedMutex.prototype, false)
  const there = await thread.run((_, copy) => 'release' in copy, structuredClone({ ...lock }) as object)
  assert.equal(there, false)
  assert.equal(await thread.tryAcquire(name), null)
  lock.release()
  assert.notEqual(await thread.tryAcquire(name), null)
})

test('Mutex, Dispose: to dispose of a mutex that is owned leaves it owned here, and the end of its process abandons it', async () => {
  await using folder = new LockFolder()
  const [owner, other] = await Promise.all([folder.process(), folder.process()])
  await owner.acquire(name, { purpose: 'disposed' }).lock
  await owner.run(({ mutex }, name) => mutex(name)[Symbol.dispose](), name)
  assert.equal(await other.tryAcquire(name), null)
  const waiting = other.acquire(name)
  await waiting.waiting
  owner.run(() => process.exit(0)).catch(() => {})
  const lock = await waiting.lock
  assert.deepEqual([lock.abandoned, lock.previousOwner?.purpose], [true, 'disposed'])
})

test('MutexTests, NamedMutex_DisposeWhenLockedRaceTest: threads that dispose of mutexes they own leave one that works', async () => {
  await using folder = new LockFolder()
  const threads = await Promise.all([folder.thread(), folder.thread(), folder.thread()])
  const rounds = threads.map((thread) =>
    thread.run(
      async ({ NamedMutex, directory }, names) => {
        let owned = 0
        for (let round = 0; round < 100; round++) {
          for (const name of names) {
            const mutex = new NamedMutex(name, { directory })
            const lock = mutex.tryAcquire()
            mutex.close()
            if (lock !== null) owned++
            if (round % 5 === 0) await new Promise((resolve) => setImmediate(resolve))
            lock?.release()
          }
        }
        return owned
      },
      [name, `${name} 2`],
    ),
  )
  for (const owned of await Promise.all(rounds)) assert.ok(owned > 0)
  for (const one of [name, `${name} 2`]) assert.equal((await folder.nextOwner(one)).abandoned, false)
})

test(
  'MutexTests, NamedMutex_ThreadExitDisposeRaceTest: an owner that ends while the last other handle is closed frees the mutex',
  withTerminate,
  async () => {
    await using folder = new LockFolder()
    for (let round = 0; round < 5; round++) {
      const owner = await folder.thread()
      const mutex = folder.mutex(name)
      const lock = await owner.acquire(name).lock
      assert.equal(lock.abandoned, round > 0)
      assert.equal(mutex.tryAcquire(), null)
      const ended = owner.kill()
      mutex.close()
      await ended
    }
    assert.equal((await folder.nextOwner(name)).abandoned, true)
  },
)

// --- Abandoning -----------------------------------------------------------------------------------------------------

test('Abandoned: the exception comes with ownership there; here a success says so, and others are excluded as ever', async () => {
  await using folder = new LockFolder()
  const [owner, next, other] = await Promise.all([folder.process(), folder.process(), folder.process()])
  await owner.acquire(name).lock
  await owner.kill()
  const lock = await next.acquire(name).lock
  assert.deepEqual([lock.abandoned, lock.previousOwner?.pid], [true, owner.pid])
  await assert.rejects(other.acquire(name, { timeoutMs: 10 }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
  const waiting = other.acquire(name)
  await waiting.waiting
  await lock.release()
  const last = await waiting.lock
  assert.deepEqual([last.abandoned, last.previousOwner], [false, undefined], 'it is thrown once')
})

for (const how of ['exit', 'kill'] as const) {
  test(`Mutex, remarks, abandoned by ${how}: children of the owner that live on have inherited nothing`, async () => {
    await using folder = new LockFolder()
    const [owner, next] = await Promise.all([folder.process(), folder.process()])
    await owner.acquire(name).lock
    const child = await owner.run(({ spawn }) => {
      // Detached, since Windows lets the others die with it.
      const idle = ['-e', 'setTimeout(() => {}, 60_000)']
      return spawn(process.execPath, idle, { detached: true, stdio: 'ignore' }).pid ?? 0
    })
    try {
      const waiting = next.acquire(name, { timeoutMs: 20_000 })
      await waiting.waiting
      if (how === 'kill') await owner.kill()
      else owner.run(() => process.exit(0)).catch(() => {})
      const lock = await waiting.lock
      assert.deepEqual([lock.abandoned, lock.previousOwner?.pid], [true, owner.pid])
      assert.ok(process.kill(child, 0), 'it lives')
    } finally {
      process.kill(child, 'SIGKILL')
    }
  })
}

test('Mutex, remarks: every mutex that the ended owner had is abandoned, and every one that it had released is not', async () => {
  await using folder = new LockFolder()
  const owner = await folder.thread()
  const names = Array.from({ length: 6 }, () => folder.uniqueName())
  for (const [index, one] of names.entries()) {
    const lock = await owner.acquire(one).lock
    if (index % 2 === 0) await lock.release()
  }
  owner.run(() => process.exit(0)).catch(() => {})
  await owner.ended
  const told = await Promise.all(names.map(async (one) => (await folder.nextOwner(one)).abandoned))
  assert.deepEqual(told, [false, true, false, true, false, true])
})

// --- The life of a name ---------------------------------------------------------------------------------------------

test('Mutex, remarks: a handle that is open, and waits for nothing, keeps the abandoned mutex; its owner is told once', async () => {
  await using folder = new LockFolder()
  const [owner, keeper, other] = await Promise.all([folder.process(), folder.process(), folder.process()])
  await (await keeper.acquire(name).lock).release()
  await owner.acquire(name).lock
  await owner.kill()
  assert.equal((await other.acquire(name).lock).previousOwner?.pid, owner.pid)
  await other.kill()
  const lock = await keeper.acquire(name).lock
  assert.deepEqual([lock.abandoned, lock.previousOwner?.pid], [true, other.pid])
})

test('MutexTests, OpenExisting_UnavailableName: once all handles are closed a name begins anew, free and not abandoned', async () => {
  await using folder = new LockFolder()
  for (let life = 0; life < 3; life++) {
    const first = folder.mutex(name)
    const second = folder.mutex(name)
    const lock = first.tryAcquire()
    assert.equal(lock?.abandoned, false)
    assert.equal(second.tryAcquire(), null)
    lock.release()
    first.close()
    assert.ok(canTake(second), 'it lives while a handle does')
    second.close()
  }
})

test('Mutex, remarks: with its owner, who alone had it open, an abandoned name is forgotten there; here the next is told', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name, { purpose: 'nobody saw it' }).lock
  await owner.kill()
  const lock = await folder.nextOwner(name)
  assert.deepEqual([lock.abandoned, lock.previousOwner?.purpose], [true, 'nobody saw it'])
})

// --- Scopes ---------------------------------------------------------------------------------------------------------

const scopes = ['Global\\', 'Local\\', ''] as const

/** Which names the asker finds taken, one after the other, while the owner has one of them. */
async function taken(owner: Party, asker: Party): Promise<boolean[][]> {
  const rows: boolean[][] = []
  for (const scope of scopes) {
    const lock = await owner.tryAcquire(`${scope}matrix`)
    const row: boolean[] = []
    for (const other of scopes) {
      const got = await asker.tryAcquire(`${other}matrix`)
      row.push(got === null)
      await got?.release()
    }
    rows.push(row)
    await lock?.release()
  }
  return rows
}

const oneUser = [
  [true, false, false],
  [false, true, true],
  [false, true, true],
]

test('Mutex, remarks: in one session Global\\x and Local\\x are two mutexes, seen by all processes, and no prefix is Local\\', async () => {
  await using folder = new LockFolder()
  const [owner, process, thread] = await Promise.all([folder.process(), folder.process(), folder.thread()])
  for (const asker of [process, thread]) assert.deepEqual(await taken(owner, asker), oneUser)
})

test(
  'Mutex, remarks: Global\\x is seen in all sessions and Local\\x in one; on POSIX that one is a user',
  withSecondUser,
  async () => {
    await using folder = new LockFolder().openToAll()
    const [owner, stranger] = await Promise.all([folder.process(), folder.process({ uid: secondUser })])
    const twoUsers = [
      [true, false, false],
      [false, false, false],
      [false, false, false],
    ]
    assert.deepEqual(await taken(owner, stranger), twoUsers)
    assert.deepEqual(await taken(stranger, owner), twoUsers)
  },
)

const inSessions =
  process.platform === 'win32' ? { skip: 'a Windows session belongs to somebody who has logged on to it' } : {}

test(
  "Mutex, remarks: Local\\ ends with a POSIX session in .NET; here a user's sessions share it",
  inSessions,
  async () => {
    await using folder = new LockFolder()
    const owner = await folder.process()
    const lock = await owner.tryAcquire('Local\\session')
    const program = join(folder.path, 'other-session.mjs')
    writeFileSync(
      program,
      `import { NamedMutex } from ${JSON.stringify(import.meta.resolve('os-mutex'))}
    const mutex = new NamedMutex('Local\\\\session', { directory: ${JSON.stringify(folder.path)} })
    console.log(mutex.tryAcquire() === null ? 'taken' : 'free')`,
    )
    // Detached: it calls setsid(2).
    const other = spawn(process.execPath, [program], { detached: true, stdio: ['ignore', 'pipe', 'inherit'] })
    assert.equal(await text(other.stdout), 'taken\n')
    await lock?.release()
  },
)
