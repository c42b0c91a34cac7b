// Owner records on a disk that is full: what was made in time keeps its promise, and what can't be kept is said.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'
import { isRoot } from '../support/second-user.ts'

const forRoot = { skip: process.platform !== 'linux' || !isRoot ? 'only root can mount a small disk, on Linux' : false }

/** Runs a module with a lock home of 64 KiB, in a mount namespace of its own. What it prints. */
function runOnSmallDisk(folder: LockFolder, program: string): string[] {
  const home = join(folder.path, 'disk')
  mkdirSync(home)
  const code = `
    import { spawnSync } from 'node:child_process'
    import { appendFileSync, rmSync } from 'node:fs'
    import { NamedMutex } from '${import.meta.resolve('os-mutex')}'
    const home = '${home}'
    const mutex = (name, options) => new NamedMutex(name, { directory: home, scope: 'global', ...options })
    const fill = () => { try { for (;;) appendFileSync(home + '/ballast', Buffer.alloc(4096)) } catch (error) { if (error.code !== 'ENOSPC') throw error } }
    /** Another process acquires, and is killed. */
    const die = (name) => spawnSync(process.execPath, ['--input-type=module', '-e', \`
      import { NamedMutex } from '${import.meta.resolve('os-mutex')}'
      globalThis.lock = new NamedMutex('\${name}', { directory: '\${home}' }).tryAcquire({ purpose: 'die' })
      process.kill(process.pid, 'SIGKILL')\`]).signal
    process.on('warning', ({ code, message }) => console.log(code + ': ' + message))
    ${program}`
  const script = 'mount -t tmpfs -o size=64k none "$0" && exec "$1" --input-type=module -e "$2"'
  const { status, stdout, stderr } = spawnSync(
    'unshare',
    ['--mount', 'sh', '-c', script, home, process.execPath, code],
    {
      encoding: 'utf8',
    },
  )
  assert.equal(status, 0, stderr)
  return stdout.split('\n').filter((line) => line !== '')
}

test('a lock file that was made before the disk was full still reports a death, with its record', forRoot, async () => {
  await using folder = new LockFolder()
  const said = runOnSmallDisk(
    folder,
    `mutex('x', { scope: 'local' }).tryAcquire().release()
     fill()
     console.log(die('x'))
     const lock = mutex('x', { scope: 'local' }).tryAcquire()
     console.log(lock.abandoned, lock.previousOwner?.purpose)`,
  )
  assert.deepEqual(said, ['SIGKILL', 'true die'])
})

test(
  'on a disk that is full a new mutex locks, and one warning says that its owners go unrecorded',
  forRoot,
  async () => {
    await using folder = new LockFolder()
    const said = runOnSmallDisk(
      folder,
      `fill()
     const lock = mutex('x').tryAcquire()
     console.log(lock !== null, mutex('x').tryAcquire())
     lock.release()
     mutex('x').tryAcquire().release()
     await new Promise((resolve) => setImmediate(resolve))
     rmSync(home + '/ballast')
     const again = mutex('x').tryAcquire({ purpose: 'work' })
     console.log(mutex('x').query().owner.purpose)`,
    )
    const [locked, warning, ...rest] = said
    assert.equal(locked, 'true null')
    for (const word of ['OS_MUTEX_NO_RECORD', 'ENOSPC', 'abandoned']) assert.ok(warning?.includes(word), warning)
    assert.deepEqual(rest, ['work'], 'it is recorded again as soon as there is room')
  },
)
