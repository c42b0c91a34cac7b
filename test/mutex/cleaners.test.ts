// The system's own cleaner of temporary files, over locks that are held.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { until } from '../support/until.ts'
import { careForAll } from '../support/upkeep.ts'

const name = 'Global\\mutex'
const tmpfiles = spawnSync('systemd-tmpfiles', ['--version']).status === 0
const withTmpfiles = { skip: !tmpfiles && 'systemd-tmpfiles is not there (Debian: apt-get install systemd)' }
const onPosix = { skip: process.platform === 'win32' && 'a kernel object has no file' }
const onLinux = { skip: process.platform !== 'linux' && 'only systemd-tmpfiles goes by the sticky bit' }

/** Whatever is as old as this is cleaned. A real rule says ten days. */
const ageSeconds = 1

/** Lets everything grow old, and cleans the folder by the system's rules. Proves by a file of nobody's that it does. */
async function clean(folder: LockFolder): Promise<void> {
  const bait = join(folder.path, 'bait')
  writeFileSync(bait, '')
  await sleep(ageSeconds * 1000 + 500)
  const rule = `${folder.path}.conf`
  writeFileSync(rule, `e ${folder.path} - - - ${ageSeconds}s\n`)
  const { status, stderr } = spawnSync('systemd-tmpfiles', ['--clean', rule], { encoding: 'utf8' })
  spawnSync('rm', [rule])
  assert.equal(status, 0, stderr)
  assert.equal(existsSync(bait), false, 'the cleaner works')
}

async function tick(owner: Party): Promise<void> {
  await owner.run(
    async ({ load }, upkeep) => ((await load(upkeep)) as { careForAll(): void }).careForAll(),
    new URL('./mutex/upkeep.js', import.meta.resolve('os-mutex')).href,
  )
}

async function holdAndTick(owner: Party, name: string, ticks: boolean): Promise<void> {
  await owner.run(async ({ NamedMutex, directory, kept }, name) => {
    kept.push(await new NamedMutex(name, { directory }).acquire({ purpose: 'held for days' }))
  }, name)
  if (ticks) await tick(owner)
}

test(
  'a global lock that was held for one tick outlives the cleaner, though its owner is stopped',
  withTmpfiles,
  async () => {
    await using folder = new LockFolder().openToAll()
    const owner = await folder.process()
    await holdAndTick(owner, name, true)
    await owner.freeze()
    await clean(folder)
    const other = await folder.process()
    assert.equal(await other.tryAcquire(name), null)
    owner.thaw()
    assert.ok(existsSync(folder.fileOf(name)))
  },
)

test('a local lock outlives the cleaner from its first moment, though its owner is stopped', withTmpfiles, async () => {
  await using folder = new LockFolder().openToAll()
  const owner = await folder.process()
  await holdAndTick(owner, 'local', false)
  await owner.freeze()
  await clean(folder)
  const other = await folder.process()
  assert.equal(await other.tryAcquire('local'), null)
  owner.thaw()
})

test('a free lock file is cleaned, and its mutex works as before', withTmpfiles, async () => {
  await using folder = new LockFolder().openToAll()
  const owner = await folder.process()
  await (await owner.acquire(name).lock).release()
  await clean(folder)
  assert.equal(existsSync(folder.fileOf(name)), false)
  const lock = await owner.acquire(name).lock
  assert.equal(folder.mutex(name).tryAcquire(), null)
  await lock.release()
})

test('a tick makes the lock file and the queue file young, and touches no folder', onPosix, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const waiter = await folder.process()
  const lock = await mutex.acquire()
  const behind = waiter.acquire(name)
  await behind.waiting
  const old = new Date('2020-01-01')
  const own = [mutex.path, folder.path]
  for (const file of own) utimesSync(file, old, old)
  careForAll()
  const [file, home] = own.map((file) => statSync(file).mtimeMs) as [number, number]
  assert.ok(file > Date.now() - 60_000)
  assert.equal(home, old.getTime())
  lock.release()
  await behind.lock
})

test('the shield is off again after the release: what nobody holds may be cleaned', onLinux, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const isSticky = () => (statSync(mutex.path).mode & 0o1000) !== 0
  const lock = await mutex.acquire()
  assert.equal(isSticky(), false)
  careForAll()
  assert.equal(isSticky(), true)
  assert.equal(statSync(mutex.path).mode & 0o777, 0o666)
  lock.release()
  assert.equal(isSticky(), false)
})

test('a lock of acquireSync is shielded at once: its thread may not come back to its event loop', onLinux, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const lock = mutex.acquireSync()
  assert.notEqual(statSync(mutex.path).mode & 0o1000, 0)
  lock.release()
})

test("a tick and a release leave an administrator's chmod as it is", onLinux, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const lock = await mutex.acquire()
  chmodSync(mutex.path, 0o660)
  careForAll()
  assert.equal(statSync(mutex.path).mode & 0o7777, 0o1660)
  chmodSync(mutex.path, 0o600)
  lock.release()
  assert.equal(statSync(mutex.path).mode & 0o7777, 0o600)
})

test(
  'the first tick comes by itself within seconds, also where the thread that acquired first has ended',
  onLinux,
  async () => {
    await using folder = new LockFolder()
    const first = await folder.thread()
    await (await first.acquire(name).lock).release()
    const mutex = folder.mutex(name)
    const lock = await mutex.acquire()
    await first.kill()
    await until('the shield is on', () => (statSync(mutex.path).mode & 0o1000) !== 0)
    lock.release()
  },
)

test(
  'a record that another program has emptied is whole again after a tick, and a crash is then noticed',
  onPosix,
  async () => {
    await using folder = new LockFolder()
    const owner = await folder.process()
    const [file, mutex] = [folder.fileOf(name), folder.mutex(name)]
    await holdAndTick(owner, name, false)
    truncateSync(file) // exec 9>file
    assert.notEqual(mutex.query().owner?.purpose, 'held for days')
    await tick(owner)
    assert.equal(mutex.query().owner?.purpose, 'held for days')
    await owner.kill()
    const next = await folder.nextOwner(name)
    assert.equal(next.abandoned, true)
    assert.equal(next.previousOwner?.purpose, 'held for days')
  },
)
