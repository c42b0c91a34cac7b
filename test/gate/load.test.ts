// loadModel: one load of a file at a time on the machine, whatever becomes of the owners.
import assert from 'node:assert/strict'
import { symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { GateFolder } from '../support/gate-folder.ts'
import { withFileLinks } from '../support/gate-links.ts'
import { otherNames } from '../support/gate-paths.ts'
import { GateProcess } from '../support/gate-process.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const MEBIBYTE = 1024 * 1024

async function assertNoOverlap(folder: GateFolder, path: string, otherName: string): Promise<void> {
  const children = await Promise.all(Array.from({ length: 4 }, () => GateProcess.start(folder.options)))
  try {
    const calls = children.map((child, index) =>
      child.loadModel({ modelPath: index % 2 === 0 ? path : otherName, useMmap: false }),
    )
    for (const { tokens } of await Promise.all(calls.map((call) => call.result))) assert.ok(tokens > 0)

    const loads = children.flatMap((child) => child.loads).sort((a, b) => a.fromMs - b.fromMs)
    assert.equal(loads.length, children.length)
    for (const [index, load] of loads.entries()) {
      assert.ok(index === 0 || (loads[index - 1]?.toMs ?? Infinity) <= load.fromMs, JSON.stringify(loads))
      assert.equal(load.abandoned, false)
    }
  } finally {
    await Promise.all(children.map((child) => child.kill()))
  }
}

test('loads of one file never overlap, by whatever path it is named', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf'), bytes: 24 * MEBIBYTE })
  await assertNoOverlap(folder, path, otherNames(path).at(-1) ?? path)
})

test('loads of one file never overlap, by whatever link it is named', withFileLinks, async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf'), bytes: 24 * MEBIBYTE })
  const link = join(folder.path, 'link.gguf')
  await symlink(path, link, 'file')
  await assertNoOverlap(folder, path, link)
})

test('a file loads while another one is being loaded', async () => {
  await using folder = await GateFolder.create()
  const busy = makeTinyGguf({ path: join(folder.models, 'a.gguf'), bytes: 64 * MEBIBYTE }).path
  const free = makeTinyGguf({ path: join(folder.models, 'b.gguf') }).path
  await using owner = await GateProcess.start(folder.options)
  await using child = await GateProcess.start(folder.options)
  owner.loadModel({ modelPath: busy }, 'load')
  await owner.frozen()
  assert.ok((await child.loadModel({ modelPath: free }).result).tokens > 0)
  assert.equal(folder.mutex('Model', busy).query().owner?.pid, owner.pid)
})

test('when an owner is killed in mid-load, the next waiter loads', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf'), bytes: 64 * MEBIBYTE })
  await using owner = await GateProcess.start(folder.options)
  await using waiter = await GateProcess.start(folder.options)

  owner.loadModel({ modelPath: path, useMmap: false }, 'load-progress')
  await owner.frozen()
  const waiting = waiter.loadModel({ modelPath: path, useMmap: false })
  await waiting.seen((message) => message.is === 'wait')
  assert.equal(owner.loads[0]?.toMs, Infinity, 'the owner was to be in the middle of its load')
  await owner.kill()

  assert.ok((await waiting.result).tokens > 0)
  assert.equal(waiter.loads[0]?.abandoned, true)
})

test('a load that waits too long says who is loading, and leaves nothing behind', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf'), bytes: 64 * MEBIBYTE })
  await using owner = await GateProcess.start(folder.options)
  await using waiter = await GateProcess.start({ ...folder.options, loadTimeoutMs: 150 })

  const loading = owner.loadModel({ modelPath: path, useMmap: false }, 'load-progress')
  await owner.frozen()
  const seen = folder.mutex('Model', path).query()
  assert.equal(seen.owner?.purpose, 'load a.gguf')
  assert.equal(seen.owner?.progress?.total, 100)

  await assert.rejects(waiter.loadModel({ modelPath: path }).result, (error: Error & Record<string, unknown>) => {
    assert.equal(error.code, 'ERR_MUTEX_TIMEOUT')
    assert.equal((error.owner as { pid: number }).pid, owner.pid)
    for (const part of [path, `${owner.pid}`, 'load a.gguf', 'loadTimeoutMs'])
      assert.ok(error.message.includes(part), error.message)
    return true
  })

  owner.thaw()
  await loading.result
  assert.equal(folder.mutex('Model', path).query().held, false)
  await waiter.loadModel({ modelPath: path }).result
})

test('loadSignal ends the wait at once, and the lock never falls to the one that gave up', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  await using child = await GateProcess.start(folder.options)
  const lock = await folder.mutex('Model', path).acquire({ purpose: 'test' })

  const call = child.loadModel({ modelPath: path })
  const wait = await call.seen((message) => message.is === 'wait')
  assert.equal(wait.is === 'wait' && wait.owner?.pid, process.pid)
  call.abort()
  await assert.rejects(call.result, { message: 'aborted by the test' })

  lock.release()
  assert.equal(folder.mutex('Model', path).query().held, false)
  assert.deepEqual(child.loads, [])
})

test('loadSignal aborts the load itself, and the lock is free again', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf'), bytes: 128 * MEBIBYTE })
  await using child = await GateProcess.start(folder.options)

  const call = child.loadModel({ modelPath: path, useMmap: false })
  await call.seen((message) => message.is === 'load-progress')
  call.abort()
  await assert.rejects(call.result, { message: 'aborted by the test' })
  assert.equal(folder.mutex('Model', path).query().held, false)
})

test('the device is locked after the file, and both are released', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  await using child = await GateProcess.start({ ...folder.options, deviceLock: true })
  const device = await folder.mutex('Device', 'cpu').acquire()

  const call = child.loadModel({ modelPath: path })
  const wait = await call.seen((message) => message.is === 'wait')
  assert.equal(wait.is === 'wait' && wait.owner?.pid, process.pid)
  assert.equal(folder.mutex('Model', path).query().owner?.pid, child.pid)
  assert.deepEqual(child.loads, [])

  device.release()
  assert.ok((await call.result).tokens > 0)
  assert.equal(folder.mutex('Model', path).query().held, false)
  assert.equal(folder.mutex('Device', 'cpu').query().held, false)
})

test('a wait for the device counts towards the same time limit and gives the file back', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  await using child = await GateProcess.start({ ...folder.options, deviceLock: true, loadTimeoutMs: 100 })
  using _device = await folder.mutex('Device', 'cpu').acquire()

  await assert.rejects(child.loadModel({ modelPath: path }).result, { code: 'ERR_MUTEX_TIMEOUT' })
  assert.equal(folder.mutex('Model', path).query().held, false)
})

test('without a GPU no device is locked unless asked for', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  await using child = await GateProcess.start(folder.options)
  using _device = await folder.mutex('Device', 'cpu').acquire()
  assert.ok((await child.loadModel({ modelPath: path }).result).tokens > 0)
})
