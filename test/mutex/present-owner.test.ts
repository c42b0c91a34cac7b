// Who is shown as the owner: the kernel's word, and the record's words only where they speak of the same process.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import type { OwnerInfo } from 'os-mutex'
import { flockQueue } from '../support/flock-queue.ts'
import { kernelTellsPids } from '../support/kernel-queue.ts'
import { lockFileBytes } from '../support/lock-file-bytes.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { inInitialPidSpace, startedIn, withNamespaces } from '../support/namespaces.ts'
import { until } from '../support/until.ts'

const name = 'Global\\owner'
const ifKernelTellsPids = kernelTellsPids
  ? {}
  : { skip: 'only Linux tells the pid of an owner and shows its processes' }

function write(folder: LockFolder, record: object): void {
  writeFileSync(folder.fileOf(name), lockFileBytes('held', JSON.stringify(record)))
}

const forgeries: Record<string, (real: OwnerInfo) => object> = {
  'another process': (real) => ({ ...real, pid: process.pid }),
  'a process of another pid namespace': ({ pidSpace = 0, ...real }) => ({ ...real, pid: 1, pidSpace: pidSpace + 1 }),
  'a process of another pid namespace, and nothing else': () => ({
    pid: process.ppid,
    pidSpace: 1,
    app: 'backup',
    purpose: 'hung, please kill',
  }),
  "the owner's pid in another pid namespace": ({ pidSpace = 0, ...real }) => ({ ...real, pidSpace: pidSpace + 1 }),
  "an earlier process with the owner's pid": ({ processStart = 0, ...real }) => ({
    ...real,
    processStart: processStart - 1,
  }),
  "a process of an earlier boot with the owner's pid and start": (real) => ({ ...real, bootId: 'another' }),
}

for (const [what, forge] of Object.entries(forgeries)) {
  test(`a record that names ${what} changes nothing in what the kernel says`, ifKernelTellsPids, async () => {
    await using folder = new LockFolder()
    const owner = await folder.process()
    await owner.acquire(name, { purpose: 'honest work' }).lock
    const mutex = folder.mutex(name)
    const real = mutex.query().owner ?? assert.fail()
    assert.deepEqual([real.pid, real.purpose, real.confirmed], [owner.pid, 'honest work', true])
    write(folder, forge(real))
    assert.deepEqual(mutex.query(), { held: true, owner: { pid: owner.pid, confirmed: true } })
    await assert.rejects(mutex.acquire({ timeoutMs: 0 }), {
      message: `Mutex "Global\\\\owner" was not free within 0 ms. It is held by the process with pid ${owner.pid}. Wait longer (timeoutMs), or end that process.`,
    })
    // The owner itself may lie in its words, and not in who it is.
    assert.deepEqual((await owner.query(name)).owner, { pid: owner.pid, confirmed: true })
  })
}

test('where the kernel names the owner it is confirmed; elsewhere its record counts, and says that it is only a record', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const lock = await owner.acquire(name, { purpose: 'download' }).lock
  await lock.report({ done: 3, total: 9 })
  const seen = folder.mutex(name).query().owner
  assert.equal(seen?.purpose, 'download')
  assert.equal(seen.progress?.done, 3)
  assert.equal(seen.pid, owner.pid)
  if (process.platform !== 'win32') assert.equal(seen.confirmed, kernelTellsPids)
  await owner.kill()
  const { previousOwner } = await folder.nextOwner(name)
  assert.equal(previousOwner?.purpose, 'download')
  assert.equal('confirmed' in previousOwner, false, 'nobody but the record speaks of the dead')
})

test('a record without the start time is believed in its words, and not confirmed', ifKernelTellsPids, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name).lock
  write(folder, { pid: owner.pid, purpose: 'another language' })
  assert.deepEqual(folder.mutex(name).query().owner, {
    pid: owner.pid,
    pidSpace: (await owner.run(({ fs }) => fs.statSync('/proc/self/ns/pid').ino)) as number,
    purpose: 'another language',
    confirmed: false,
  })
})

test(
  'a process that took the lock, has ended and left it to a child is not confirmed as the owner',
  ifKernelTellsPids,
  async () => {
    await using folder = new LockFolder()
    const mutex = folder.mutex(name)
    mutex.tryAcquire()?.release()
    const command = ['sh', '-c', 'echo $$; exec sleep 60']
    const taker = spawn('flock', [mutex.path, ...command], { stdio: ['ignore', 'pipe', 'inherit'] })
    const child = Number((await once(taker.stdout, 'data')).toString())
    try {
      assert.deepEqual(mutex.query(), { held: true, owner: { pid: taker.pid, confirmed: true } })
      taker.kill('SIGKILL')
      await once(taker, 'exit')
      // The initial pid namespace lists the lock with the dead pid, others do not list it.
      const owner = inInitialPidSpace ? { owner: { pid: taker.pid, confirmed: false } } : {}
      assert.deepEqual(mutex.query(), { held: true, ...owner })
    } finally {
      process.kill(child, 'SIGKILL')
    }
    await until('the child has let go', () => !mutex.query().held)
  },
)

/** Who holds the lock, in the numbers of this process's pid namespace. */
const holderOf = (folder: LockFolder) => flockQueue(folder.fileOf(name)).owners[0]

test(
  "a container's owner is shown with the pid that it has here, its purpose and its progress",
  withNamespaces,
  async () => {
    await using folder = new LockFolder()
    const owner = await folder.process(startedIn({ pids: 'own' }))
    const lock = await owner.acquire(name, { purpose: 'download phi-3' }).lock
    const inside = (await owner.query(name)).owner
    assert.deepEqual([inside?.pid, inside?.confirmed], [1, true], 'a container counts from 1')
    for (const done of [1, 2]) {
      await lock.report({ done, total: 2, unit: 'files' })
      const seen = folder.mutex(name).query().owner ?? assert.fail()
      assert.equal(seen.pid, holderOf(folder))
      assert.notEqual(seen.pid, 1)
      assert.equal(seen.confirmed, true)
      assert.deepEqual([seen.purpose, seen.progress?.done], ['download phi-3', done])
      const self = await folder.process()
      assert.equal(seen.pidSpace, await self.run(({ fs }) => fs.statSync('/proc/self/ns/pid').ino))
      process.kill(seen.pid, 0)
    }
  },
)

test(
  'an owner outside of the container is shown in it by its record, which nobody confirms there',
  withNamespaces,
  async () => {
    await using folder = new LockFolder()
    const inside = await folder.process(startedIn({ pids: 'own' }))
    const owner = await folder.process()
    const lock = await owner.acquire(name, { purpose: 'download phi-3' }).lock
    await lock.report({ done: 7 })
    const seen = (await inside.query(name)).owner
    assert.deepEqual([seen?.pid, seen?.confirmed], [owner.pid, false])
    assert.deepEqual([seen?.purpose, seen?.progress?.done], ['download phi-3', 7])
    await assert.rejects(inside.acquire(name, { timeoutMs: 0 }).lock, {
      message: /according to its own record\) since .*, or end that process after checking that it is the right one\.$/,
    })
    await lock.release()
    assert.deepEqual(await inside.query(name), { held: false })
  },
)

test('an owner outside of the container that leaves no record is seen from inside', withNamespaces, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  mutex.tryAcquire()?.release()
  const inside = await folder.process(startedIn({ pids: 'own' }))
  assert.deepEqual(await inside.query(name), { held: false })
  const holder = spawn('flock', [mutex.path, 'sh', '-c', 'echo held; cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    await once(holder.stdout, 'data')
    assert.equal(await inside.tryAcquire(name), null)
    assert.deepEqual(await inside.query(name), { held: true })
    await assert.rejects(inside.acquire(name, { timeoutMs: 0 }).lock, { message: /or find the program that holds it/ })
  } finally {
    holder.stdin.end()
    await once(holder, 'exit')
  }
})

test(
  'a sandbox that counts pids itself, but sees the /proc of the outside, mistakes nobody for itself',
  withNamespaces,
  async () => {
    await using folder = new LockFolder()
    const inside = await folder.process(startedIn({ pids: 'hostsProc' }))
    const lock = await inside.acquire(name, { purpose: 'in a sandbox' }).lock
    const seen = folder.mutex(name).query().owner
    assert.deepEqual([seen?.pid, seen?.purpose, seen?.confirmed], [holderOf(folder), 'in a sandbox', true])
    assert.deepEqual((await inside.query(name)).owner?.pid, 1)
    await lock.release()
    const owner = await folder.process()
    await owner.acquire(name, { purpose: 'outside' }).lock
    const outside = (await inside.query(name)).owner
    assert.deepEqual([outside?.pid, outside?.purpose, outside?.confirmed], [owner.pid, 'outside', false])
  },
)
