import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { basename, join, parse } from 'node:path'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { onWindows } from '../support/win32/foreign.ts'

const name = 'Global\\paths'

/** Other spellings of one path. */
function spellings(path: string): string[] {
  const { root } = parse(path)
  const rest = path.slice(root.length)
  return [
    root.toLowerCase() + rest,
    root.toUpperCase() + rest,
    path.toUpperCase(),
    path.toLowerCase(),
    path.replaceAll('\\', '/'),
    `${path}\\`,
    `${path}\\.\\x\\..`,
    `\\\\?\\${path}`,
  ]
}

/** Whether the mutex is taken, as the party sees it by this path of the lock home. */
function isTaken(party: Party, name: string, directory: string): Promise<boolean> {
  return party.run(
    ({ NamedMutex }, name, directory) => {
      const mutex = new NamedMutex(name, { directory })
      const taken = mutex.tryAcquire() === null
      mutex.close()
      return taken
    },
    name,
    directory,
  )
}

test('one directory is one lock home, however its path is written', onWindows, async () => {
  await using folder = new LockFolder()
  const lock = folder.mutex(name).tryAcquire()
  assert.ok(lock)
  for (const directory of spellings(folder.path)) {
    const mutex = folder.mutex(name, { directory })
    assert.equal(mutex.tryAcquire(), null, directory)
    assert.equal(mutex.query().owner?.pid, process.pid, directory)
    assert.equal(mutex.path.toLowerCase(), folder.fileOf(name).toLowerCase())
  }
  const other = await folder.process()
  for (const directory of spellings(folder.path)) {
    assert.equal(await isTaken(other, name, directory), true, directory)
  }
  lock.release()
})

test('the default lock home is the same one when it is named as the option "directory"', onWindows, async () => {
  await using folder = new LockFolder()
  const home = join(folder.path, 'os-mutex')
  // Two processes: in one, the path alone makes them the same.
  const [owner, party] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
  const own = `Global\\${basename(folder.path)}`
  await owner.acquire(own).lock
  for (const directory of spellings(home)) {
    assert.equal(await isTaken(party, own, directory), true, directory)
  }
})

test('a lock home may have a path of more than 260 units', onWindows, async () => {
  await using folder = new LockFolder()
  const directory = join(folder.path, ...Array.from({ length: 8 }, (_, depth) => `${depth}`.repeat(50)))
  mkdirSync(directory, { recursive: true })
  assert.ok(directory.length > 400)
  const [mutex, again] = [folder.mutex(name, { directory }), folder.mutex(name, { directory })]
  const lock = mutex.tryAcquire({ purpose: 'deep down' })
  assert.ok(lock)
  assert.equal(again.tryAcquire(), null)
  assert.equal(again.query().owner?.purpose, 'deep down', 'its record is kept')
  lock.release()
})

test('a lock home on a server that is not to be reached is refused, by its path', onWindows, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name, { directory: '\\\\localhost\\no-such-share\\home' })
  assert.throws(() => mutex.tryAcquire(), { code: 'ERR_MUTEX_LOCK_FILE', message: /localhost.*no-such-share/ })
})

test('paths of any Unicode are lock homes', onWindows, async () => {
  await using folder = new LockFolder()
  for (const part of ['日本語', 'ünïcödé', '😀', 'a b']) {
    const directory = join(folder.path, part)
    mkdirSync(directory)
    const lock = folder.mutex(name, { directory }).tryAcquire({ purpose: part })
    assert.ok(lock)
    assert.equal(folder.mutex(name, { directory }).query().owner?.purpose, part)
    lock.release()
  }
})
