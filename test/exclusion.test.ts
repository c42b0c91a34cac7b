import assert from 'node:assert/strict'
import { copyFileSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { NamedMutex } from 'os-mutex'
import { canTake, LockFolder } from './support/lock-folder.ts'

const kinds = ['process', 'thread'] as const
const name = 'Global\\shared'

for (const ownerKind of kinds) {
  for (const otherKind of kinds) {
    test(`a lock of a ${ownerKind} excludes every other ${otherKind} until it is released`, async () => {
      await using folder = new LockFolder()
      const [owner, other] = await Promise.all([folder[ownerKind](), folder[otherKind]()])
      const lock = await owner.acquire(name).lock
      assert.equal(await other.tryAcquire(name), null)
      assert.deepEqual((await other.query(name)).held, true)
      await assert.rejects(other.acquire(name, { timeoutMs: 20 }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
      await assert.rejects(other.acquire(name, { timeoutMs: 20, sync: true }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
      await lock.release()
      assert.deepEqual(await other.query(name), { held: false })
      assert.notEqual(await other.tryAcquire(name), null)
      assert.equal(await owner.tryAcquire(name), null)
    })
  }
}

test('instances in one thread exclude each other, and an instance excludes itself', async () => {
  await using folder = new LockFolder()
  const [first, second] = [folder.mutex(name), folder.mutex(name)]
  const lock = await first.acquire()
  assert.equal(second.tryAcquire(), null)
  assert.equal(first.tryAcquire(), null)
  const waiting = first.acquire()
  lock.release()
  assert.equal(second.tryAcquire(), null, 'the waiting acquire comes first')
  ;(await waiting).release()
  assert.ok(canTake(second))
})

test('a free mutex is taken before acquire() returns', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const acquire = mutex.acquire()
  assert.equal(mutex.query().held, true)
  const lock = await acquire
  assert.equal(lock.waitedMs, 0)
  lock.release()
})

test('a plain name is the Local one, and the Global one is another mutex', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const plain = folder.mutex('twin').tryAcquire()
  assert.equal(await other.tryAcquire('Local\\twin'), null)
  assert.equal(folder.mutex('Local\\twin').tryAcquire(), null)
  assert.notEqual(await other.tryAcquire('Global\\twin'), null)
  plain?.release()
  assert.notEqual(await other.tryAcquire('Local\\twin'), null)
  assert.equal(folder.mutex('twin').tryAcquire(), null)
})

test('different names do not exclude each other', async () => {
  await using folder = new LockFolder()
  const locks = Array.from({ length: 50 }, () => folder.mutex(folder.uniqueName()).tryAcquire())
  assert.ok(locks.every((lock) => lock !== null))
  for (const lock of locks) lock?.release()
})

test('processes and threads that all change one file under the lock lose no change', async () => {
  await using folder = new LockFolder()
  const rounds = 150
  const counter = join(folder.path, 'counter')
  writeFileSync(counter, '0')
  const parties = await Promise.all([
    folder.process(),
    folder.process(),
    folder.process(),
    folder.thread(),
    folder.thread(),
  ])
  const done = parties.map((party, index) =>
    party.run(
      async ({ mutex, fs }, name, counter, rounds, way) => {
        const readThenWrite = async (pause: boolean) => {
          const seen = Number(fs.readFileSync(counter, 'utf8'))
          if (pause) await new Promise((resolve) => setImmediate(resolve))
          fs.writeFileSync(counter, String(seen + 1))
        }
        for (let round = 0; round < rounds; round++) {
          if (way === 0) {
            const lock = mutex(name).acquireSync()
            await readThenWrite(false)
            lock.release()
          } else if (way === 1) {
            let lock = mutex(name).tryAcquire()
            for (; lock === null; lock = mutex(name).tryAcquire()) await new Promise((resolve) => setImmediate(resolve))
            await readThenWrite(true)
            lock.release()
          } else {
            await mutex(name).withLock(() => readThenWrite(true))
          }
        }
      },
      name,
      counter,
      rounds,
      index % 3,
    ),
  )
  const here = Array.from({ length: 2 }, () => folder.mutex(name)).map(async (mutex) => {
    for (let round = 0; round < rounds; round++) {
      await mutex.withLock(async () => {
        const seen = Number(readFileSync(counter, 'utf8'))
        await new Promise((resolve) => setImmediate(resolve))
        writeFileSync(counter, String(seen + 1))
      })
    }
  })
  await Promise.all([...done, ...here])
  assert.equal(Number(readFileSync(counter, 'utf8')), rounds * (parties.length + here.length))
})

test('an owner that stands still for long keeps its lock', { skip: process.platform === 'win32' }, async () => {
  await using folder = new LockFolder()
  const [owner, other] = await Promise.all([folder.process(), folder.process()])
  const lock = await owner.acquire(name).lock
  owner.freeze()
  await assert.rejects(other.acquire(name, { timeoutMs: 1000 }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
  assert.equal((await other.query(name)).owner?.pid, owner.pid)
  owner.thaw()
  await lock.release()
  assert.equal((await other.acquire(name).lock).abandoned, false)
})

test('two copies of the package in one process, each with its own addon, exclude each other', async () => {
  await using folder = new LockFolder()
  const copy = await importCopy(folder.path)
  assert.notEqual(copy, NamedMutex)
  const [ours, theirs] = [folder.mutex(name), new copy(name, { directory: folder.path })]
  const lock = ours.tryAcquire()
  assert.equal(theirs.tryAcquire(), null)
  const waiting = theirs.acquire()
  lock?.release()
  const granted = await waiting
  assert.equal(ours.tryAcquire(), null)
  const back = ours.acquireSync.bind(ours)
  assert.throws(() => back({ timeoutMs: 20 }), { code: 'ERR_MUTEX_TIMEOUT' })
  granted.release()
  assert.ok(canTake(ours))
})

test('two paths to one directory lead to one mutex', async () => {
  await using folder = new LockFolder()
  mkdirSync(join(folder.path, 'home'))
  symlinkSync('home', join(folder.path, 'link'))
  const [direct, byLink] = ['home', 'link'].map((home) => new NamedMutex(name, { directory: join(folder.path, home) }))
  assert.ok(direct && byLink)
  const lock = direct.tryAcquire()
  assert.equal(byLink.tryAcquire(), null)
  const waiting = byLink.acquire()
  lock?.release()
  assert.equal((await waiting).abandoned, false)
  assert.equal(direct.tryAcquire(), null)
})

/** The package as if it were installed a second time, in another dependency's node_modules. */
async function importCopy(folder: string): Promise<typeof NamedMutex> {
  const entry = fileURLToPath(import.meta.resolve('os-mutex'))
  const root = dirname(dirname(entry))
  const copy = join(folder, 'copy')
  mkdirSync(join(copy, 'build/Release'), { recursive: true })
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true })
  copyFileSync(join(root, 'package.json'), join(copy, 'package.json'))
  copyFileSync(join(root, 'build/Release/os_mutex.node'), join(copy, 'build/Release/os_mutex.node'))
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  const module = (await import(pathToFileURL(join(copy, 'dist/index.js')).href)) as { NamedMutex: typeof NamedMutex }
  return module.NamedMutex
}

test('a module that is evaluated a second time in one thread takes no grant away from the first', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex('evaluated twice')
  const lock = await mutex.acquire()
  const waiting = mutex.acquire()
  const again = new URL('./mutex/named-mutex.js?again', import.meta.resolve('os-mutex')).href
  const { NamedMutex: Again } = (await import(again)) as { NamedMutex: typeof NamedMutex }
  assert.notEqual(Again, NamedMutex)
  const waitingAgain = new Again('evaluated twice', { directory: folder.path }).acquire()
  lock.release()
  ;(await waiting).release()
  ;(await waitingAgain).release()
})
