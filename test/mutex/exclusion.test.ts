import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { NamedMutex } from 'os-mutex'
import { linkDirectory, withLinks } from '../support/links.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'
import { withSignals } from '../support/runtimes.ts'

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

test('an owner that stands still for long keeps its lock', withSignals, async () => {
  await using folder = new LockFolder()
  const [owner, other] = await Promise.all([folder.process(), folder.process()])
  const lock = await owner.acquire(name).lock
  await owner.freeze()
  await assert.rejects(other.acquire(name, { timeoutMs: 1000 }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
  assert.equal((await other.query(name)).owner?.pid, owner.pid)
  owner.thaw()
  await lock.release()
  assert.equal((await other.acquire(name).lock).abandoned, false)
})

test('two copies of the package in one process, each with its own addon, exclude each other', async () => {
  await using folder = new LockFolder()
  const copy = makeCopy(folder.path)
  // In another process, since Windows removes no library that is in use.
  const party = await folder.process()
  const seen = await party.run(
    async ({ NamedMutex, load, directory }, name, entry) => {
      const { NamedMutex: Copy } = (await load(entry)) as { NamedMutex: typeof NamedMutex }
      const [ours, theirs] = [new NamedMutex(name, { directory }), new Copy(name, { directory })]
      const lock = ours.tryAcquire()
      const whileOurs = theirs.tryAcquire()
      const waiting = theirs.acquire()
      lock?.release()
      const granted = await waiting
      const whileTheirs = ours.tryAcquire()
      let code: unknown
      try {
        ours.acquireSync({ timeoutMs: 20 })
      } catch (error) {
        code = (error as { code: string }).code
      }
      granted.release()
      const back = ours.tryAcquire()
      back?.release()
      return { isCopy: Copy !== NamedMutex, whileOurs, whileTheirs, code, isBack: back !== null }
    },
    name,
    pathToFileURL(join(copy, 'dist/index.js')).href,
  )
  assert.deepEqual(seen, {
    isCopy: true,
    whileOurs: null,
    whileTheirs: null,
    code: 'ERR_MUTEX_TIMEOUT',
    isBack: true,
  })
})

test('two paths to one directory lead to one mutex', withLinks, async () => {
  await using folder = new LockFolder()
  mkdirSync(join(folder.path, 'home'))
  linkDirectory(join(folder.path, 'home'), join(folder.path, 'link'))
  const [direct, byLink] = ['home', 'link'].map((home) => folder.mutex(name, { directory: join(folder.path, home) }))
  assert.ok(direct && byLink)
  const lock = direct.tryAcquire()
  assert.equal(byLink.tryAcquire(), null)
  const waiting = byLink.acquire()
  lock?.release()
  const granted = await waiting
  assert.equal(granted.abandoned, false)
  assert.equal(direct.tryAcquire(), null)
  granted.release()
})

/** The package as if it were installed a second time, in another dependency's node_modules. */
function makeCopy(folder: string): string {
  const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
  const copy = join(folder, 'copy')
  // Wherever it is found: in build/ or in prebuilds/.
  const { path: addonOf } = createRequire(import.meta.url)('node-gyp-build') as { path(root: string): string }
  for (const part of ['dist', 'package.json', relative(root, addonOf(root)), 'node_modules/node-gyp-build']) {
    cpSync(join(root, part), join(copy, part), { recursive: true, dereference: true })
  }
  return copy
}

/** As a test runner does that forgets its modules. The addon is the process's, and stays. */
function evaluateAgain(): typeof import('os-mutex') {
  const dist = dirname(fileURLToPath(import.meta.resolve('os-mutex')))
  const require = createRequire(import.meta.url)
  for (const file of Object.keys(require.cache)) if (file.startsWith(dist)) delete require.cache[file]
  return require(join(dist, 'index.js'))
}

test('a module that is evaluated a second time in one thread takes no grant away from the first', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex('evaluated twice')
  const lock = await mutex.acquire()
  const waiting = mutex.acquire()
  const { NamedMutex: Again } = evaluateAgain()
  assert.notEqual(Again, NamedMutex)
  using instance = new Again('evaluated twice', { directory: folder.path })
  const waitingAgain = instance.acquire()
  lock.release()
  ;(await waiting).release()
  ;(await waitingAgain).release()
})
