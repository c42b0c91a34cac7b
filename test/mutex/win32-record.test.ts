// The lock does not depend on the file of the owner's record: where that can't be had, owners are not told to others, a
// warning says so, and that is all.
import assert from 'node:assert/strict'
import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import type { NamedMutex } from 'os-mutex'
import { linkDirectory, withLinks } from '../support/links.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { Foreign, onWindows } from '../support/win32/foreign.ts'

const name = 'Global\\record'

/** Tells the codes of our warnings that come in the party. Node has its own. */
function listen(party: Party): Promise<void> {
  return party.run(({ kept }) => {
    const codes: unknown[] = []
    kept.push(codes)
    process.on('warning', (warning) => {
      if (warning.name === 'MutexWarning') codes.push((warning as Error & { code?: string }).code)
    })
  })
}

async function warnings(party: Party): Promise<unknown> {
  // They come in a later turn.
  return party.run(async ({ kept }) => {
    await new Promise((resolve) => setImmediate(resolve))
    return kept[0]
  })
}

/** Proves that a mutex without a record excludes, waits and tells an abandonment as any other, and warns once. */
async function worksUnrecorded(one: Party, other: Party, mutexName = name): Promise<void> {
  await Promise.all([one, other].map(listen))
  for (let round = 0; round < 3; round++) {
    const lock = await one.acquire(mutexName, { purpose: 'unseen' }).lock
    assert.equal(lock.abandoned, false)
    assert.equal(await other.tryAcquire(mutexName), null)
    const { held, owner } = await other.query(mutexName)
    assert.equal(held, true)
    assert.equal(owner?.purpose, undefined)
    await assert.rejects(other.acquire(mutexName, { timeoutMs: 5 }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
    await lock.report({ done: 1 })
    const acquire = other.acquire(mutexName)
    await acquire.waiting
    await lock.release()
    const next = await acquire.lock
    assert.equal(next.abandoned, false)
    await next.release()
  }
  for (const party of [one, other]) assert.deepEqual(await warnings(party), ['OS_MUTEX_NO_RECORD'])
  await one.acquire(mutexName).lock
  const acquire = other.acquire(mutexName)
  await acquire.waiting
  await one.kill()
  const lock = await acquire.lock
  assert.equal(lock.abandoned, true, 'by the word of the kernel')
  assert.equal(lock.previousOwner, undefined)
}

const inTheWay: Record<string, (path: string, target: string) => Foreign | undefined> = {
  'a directory': (path) => void mkdirSync(path),
  'a hard link': (path, target) => void linkSync(target, path),
  'a file that another program has for itself': (path) => new Foreign('monopolise', path),
}

for (const [what, put] of Object.entries(inTheWay)) {
  test(`${what} in the place of a record is left as it is, and the mutex works`, onWindows, async () => {
    await using folder = new LockFolder()
    const target = join(folder.path, 'target')
    writeFileSync(target, 'precious')
    await using stranger = put(folder.fileOf(name), target)
    await stranger?.says('made')
    const [one, other] = await Promise.all([folder.process(), folder.process()])
    await worksUnrecorded(one, other)
    assert.equal(readFileSync(target, 'utf8'), 'precious')
    assert.equal(statSync(target).size, 8)
  })
}

const ours: Record<string, (mutex: NamedMutex) => void> = {
  'an empty file': ({ path }) => writeFileSync(path, ''),
  'a file that no owner has written to yet': ({ path }) => writeFileSync(path, Buffer.alloc(4096)),
  'a record of ours': (mutex) => {
    mutex.tryAcquire()?.release()
    mutex.close()
  },
}

for (const [what, put] of Object.entries(ours)) {
  // Any user may give it one, and nobody would be told of an owner again.
  test(`${what} that has got a second name is a record as before`, onWindows, async () => {
    await using folder = new LockFolder()
    put(folder.mutex(name))
    linkSync(folder.fileOf(name), join(folder.path, 'another name'))
    const [one, other] = await Promise.all([folder.process(), folder.process()])
    await Promise.all([one, other].map(listen))
    await one.acquire(name, { purpose: 'be seen' }).lock
    assert.equal((await other.query(name)).owner?.purpose, 'be seen')
    await one.kill()
    const lock = await other.acquire(name).lock
    assert.equal(lock.previousOwner?.purpose, 'be seen')
    assert.deepEqual(await warnings(other), [])
  })
}

test('a release wipes what its owner wrote, and what an owner before it left behind', onWindows, async () => {
  await using folder = new LockFolder()
  const victim = await folder.process()
  const mutex = folder.mutex(name)
  const content = () => readFileSync(mutex.path, 'latin1')
  await victim.acquire(name, { purpose: `${'-'.repeat(200)}rotate key 4711` }).lock
  await victim.kill()
  const lock = mutex.tryAcquire({ purpose: 'repair' })
  assert.equal(lock?.abandoned, true)
  assert.ok(content().includes('repair'))
  lock?.release()
  assert.match(content(), /^-F1 [0-9a-f]{4} +\0+$/)
  const next = mutex.tryAcquire({ purpose: 'go on' })
  assert.deepEqual([next?.abandoned, next?.previousOwner], [false, undefined])
  assert.equal(folder.mutex(name).query().owner?.purpose, 'go on')
  next?.release()
})

test('a lock home that somebody else made serves all the same', onWindows, async () => {
  await using folder = new LockFolder()
  mkdirSync(join(folder.path, 'os-mutex'))
  const [one, other] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
  await listen(one)
  const own = `Global\\${basename(folder.path)}`
  await one.acquire(own, { purpose: 'be seen' }).lock
  assert.equal((await other.query(own)).owner?.purpose, 'be seen')
  assert.deepEqual(await warnings(one), [])
})

test('a file in the place of the lock home is left as it is, and mutexes work', onWindows, async () => {
  await using folder = new LockFolder()
  writeFileSync(join(folder.path, 'os-mutex'), 'precious')
  const [one, other] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
  await worksUnrecorded(one, other, `Global\\${basename(folder.path)}`)
  assert.equal(readFileSync(join(folder.path, 'os-mutex'), 'utf8'), 'precious')
})

// Only administrators may make %ProgramData%\\os-mutex anything but a directory of ours once it is there, but anybody
// before.
test('a link in the place of the lock home is not followed, and mutexes work', {
  ...onWindows,
  ...withLinks,
}, async () => {
  await using folder = new LockFolder()
  await using elsewhere = new LockFolder()
  linkDirectory(elsewhere.path, join(folder.path, 'os-mutex'))
  const [one, other] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
  await worksUnrecorded(one, other, `Global\\${basename(folder.path)}`)
  assert.throws(() => statSync(join(elsewhere.path, `.os-mutex-${basename(folder.path)}`)), { code: 'ENOENT' })
})

// Between a look at the lock home and its use by name its maker could lead the process elsewhere, and try again at each
// acquire.
test('no record is made elsewhere while the lock home becomes a link and a directory in turn', {
  ...onWindows,
  ...withLinks,
}, async () => {
  await using folder = new LockFolder()
  await using elsewhere = new LockFolder()
  const home = join(folder.path, 'os-mutex')
  mkdirSync(home)
  linkDirectory(elsewhere.path, `${home}-link`)
  const [maker, owner] = await Promise.all([folder.processAtHome(), folder.processAtHome()])
  const swapped = maker.run(({ fs, kept }, home) => {
    const swap = (from: string, to: string) => {
      try {
        fs.renameSync(from, to)
        return true
      } catch {
        return false // the owner has a file in it open
      }
    }
    let asides = 0
    let swaps = 0
    return new Promise<number>((resolve) => {
      const turn = () => {
        for (let round = 0; round < 20; round++) {
          // The owner makes it again where there is none.
          if (!swap(home, `${home}-aside-${asides++}`) || !swap(`${home}-link`, home)) continue
          swap(home, `${home}-link`)
          swaps++
        }
        if (kept.includes('stop')) resolve(swaps)
        else setImmediate(turn)
      }
      turn()
    })
  }, home)
  await owner.run(({ mutex }, base) => {
    for (let round = 0; round < 2000; round++) {
      const one = mutex(`Global\\${base} ${round}`)
      one.tryAcquire()?.release()
      one.close()
    }
  }, basename(folder.path))
  await maker.run(({ kept }) => void kept.push('stop'))
  assert.ok((await swapped) > 0)
  assert.deepEqual(readdirSync(elsewhere.path), [])
})

test('a lock home whose parent is missing is refused', onWindows, async () => {
  await using folder = new LockFolder()
  const party = await folder.processAtHome()
  rmSync(folder.path, { recursive: true })
  await assert.rejects(party.tryAcquire(name), { code: 'ERR_MUTEX_LOCK_FILE', message: /Create it/ })
})

test('a record that can be had later is kept from then on', onWindows, async () => {
  await using folder = new LockFolder()
  const [one, other] = await Promise.all([folder.process(), folder.process()])
  const path = folder.fileOf(name)
  mkdirSync(path)
  const lock = await one.acquire(name).lock
  assert.equal((await other.query(name)).owner?.purpose, undefined)
  await lock.release()
  rmSync(path, { recursive: true })
  // By instances that were not there before.
  const [late, reader] = await Promise.all([folder.process(), folder.process()])
  await late.acquire(name, { purpose: 'seen' }).lock
  assert.equal((await reader.query(name)).owner?.purpose, 'seen')
})

test('a record that another program rewrites all the time breaks neither locking nor query', onWindows, async () => {
  await using folder = new LockFolder()
  await using scribbler = new Foreign('scribble', folder.fileOf(name))
  await scribbler.says('made')
  const counter = join(folder.path, 'counter')
  writeFileSync(counter, '0')
  const rounds = 200
  const parties = await Promise.all([folder.process(), folder.process(), folder.process()])
  const seen = await Promise.all(
    parties.map((party) =>
      party.run(
        async ({ mutex, fs }, name, counter, rounds) => {
          let owners = 0
          for (let round = 0; round < rounds; round++) {
            const lock = await mutex(name).acquire({ purpose: 'x'.repeat(round) })
            const count = Number(fs.readFileSync(counter, 'utf8'))
            lock.report({ done: round })
            const { held, owner } = mutex(name).query()
            if (!held) throw new Error('it is held')
            if (owner?.pid !== undefined) owners++
            fs.writeFileSync(counter, String(count + 1))
            lock.release()
            mutex(name).query()
          }
          return owners
        },
        name,
        counter,
        rounds,
      ),
    ),
  )
  assert.equal(Number(readFileSync(counter, 'utf8')), parties.length * rounds)
  assert.equal(seen.length, 3)
  await scribbler.letGo()
  // Once that is over, records are whole again.
  const lock = folder.mutex(name).tryAcquire({ purpose: 'whole' })
  assert.equal((await parties[0]?.query(name))?.owner?.purpose, 'whole')
  lock?.release()
  assert.equal((await folder.nextOwner(name)).abandoned, false)
})

test('a record in use can be read, and neither removed, renamed nor cut off', onWindows, async () => {
  await using folder = new LockFolder()
  const lock = folder.mutex(name).tryAcquire({ purpose: 'be read' })
  const path = folder.fileOf(name)
  assert.ok(readFileSync(path, 'latin1').includes('be read'))
  assert.equal(statSync(path).size, 4096)
  assert.throws(() => rmSync(path))
  assert.throws(() => renameSync(path, `${path}-gone`))
  assert.throws(() => writeFileSync(path, ''))
  assert.equal(dirname(path), folder.path)
  lock?.release()
})
