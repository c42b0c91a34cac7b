// The kernel's lock on one file: who holds it, and when it ends.
import assert from 'node:assert/strict'
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { holdFile, isLockMandatory, isOneKernel, mountAbove } from '../support/file-hold.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { withTerminate } from '../support/runtimes.ts'
import { started } from '../support/start.ts'
import { until } from '../support/until.ts'

const program = new URL('../support/hold-child.js', import.meta.url)

function newFile(folder: LockFolder, name = 'record'): string {
  const path = join(folder.path, name)
  writeFileSync(path, 'what is in it')
  return path
}

async function holder(path: string): Promise<ChildProcess> {
  const child = started(() => fork(fileURLToPath(program), [path]))
  assert.deepEqual((await once(child, 'message'))[0], 'held')
  return child
}

/** Locks it, and lets it go. */
function canHold(path: string): boolean {
  const hold = holdFile(path)
  if (typeof hold === 'string') return false
  hold.release()
  return true
}

test('one holds it, in this process and in others, and everybody reads and writes it meanwhile', async () => {
  await using folder = new LockFolder()
  const path = newFile(folder)
  const hold = holdFile(path)
  assert.ok(typeof hold !== 'string')
  assert.equal(holdFile(path), 'taken')
  assert.equal(readFileSync(path, 'utf8'), 'what is in it')
  // Closing another descriptor of the file frees nothing.
  writeFileSync(path, 'something else')
  assert.equal(holdFile(path), 'taken')
  const child = started(() => fork(fileURLToPath(program), [path]))
  assert.deepEqual((await once(child, 'message'))[0], 'taken')
  child.disconnect()
  hold.release()
  hold.release()
  assert.ok(canHold(path))
})

test('a kill frees it', async () => {
  await using folder = new LockFolder()
  const path = newFile(folder)
  const child = await holder(path)
  assert.equal(holdFile(path), 'taken')
  child.kill('SIGKILL')
  await once(child, 'exit')
  await until('the lock is free', () => canHold(path))
})

test('the end of its thread frees it', withTerminate, async () => {
  await using folder = new LockFolder()
  const path = newFile(folder)
  const worker = new Worker(program, { workerData: path })
  assert.deepEqual((await once(worker, 'message'))[0], 'held')
  assert.equal(holdFile(path), 'taken')
  await worker.terminate()
  await until('the lock is free', () => canHold(path))
})

test('it knows its name: after a rename, a removal and a replacement', async () => {
  await using folder = new LockFolder()
  const [path, other] = [newFile(folder), join(folder.path, 'other')]
  const hold = holdFile(path)
  assert.ok(typeof hold !== 'string')
  assert.equal(hold.isNamed(path), true)
  renameSync(path, other)
  assert.deepEqual([hold.isNamed(path), hold.isNamed(other)], [false, true])
  assert.equal(holdFile(path), 'gone')
  assert.equal(holdFile(other), 'taken')
  writeFileSync(path, 'a new one')
  assert.equal(hold.isNamed(path), false)
  unlinkSync(other)
  // Windows before its version 1607, and Wine, remove the name of an open file when it is closed.
  assert.equal(hold.isNamed(other), existsSync(other))
  assert.ok(process.platform === 'win32' || !existsSync(other))
  hold.release()
  assert.equal(hold.isNamed(path), false)
})

test('what is no file to be locked is refused with the reason', async () => {
  await using folder = new LockFolder()
  assert.equal(holdFile(join(folder.path, 'missing')), 'gone')
  assert.throws(() => holdFile(folder.path), { kind: 'system' })
})

test('a lock in the folder of temporary files is seen by the whole machine', async () => {
  await using folder = new LockFolder()
  assert.equal(isOneKernel(folder.path), true)
  assert.equal(isLockMandatory(folder.path), false)
})

test('a mount is found by its longest path, and the last of two on one point covers the other', () => {
  const lines = [
    '22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw',
    '23 22 8:2 / /mnt/disk rw,relatime shared:2 master:1 - fuseblk /dev/sdb1 rw',
    '24 22 0:40 /inner /mnt/disk\\040two rw - fuse.sshfs host: rw',
    '25 22 0:41 / /mnt/disk rw - tmpfs tmpfs rw',
  ]
  assert.equal(mountAbove('/home', lines.join('\n'))?.type, 'ext4')
  assert.equal(mountAbove('/mnt/disk/models', lines.slice(0, 3).join('\n'))?.type, 'fuseblk')
  assert.deepEqual(mountAbove('/mnt/disk two', lines.join('\n')), {
    point: '/mnt/disk two',
    root: '/inner',
    type: 'fuse.sshfs',
  })
  assert.equal(mountAbove('/mnt/disk/models', lines.join('\n'))?.type, 'tmpfs')
  assert.equal(mountAbove('/home', ''), undefined)
})
