// A /tmp that looks shared and is not: mutexes in it exclude nobody outside, and the process is warned of that once.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'
import { privateMount } from '../support/mutex-internals.ts'
import { isRoot } from '../support/second-user.ts'

const forRoot = {
  skip: process.platform !== 'linux' || !isRoot ? 'only root can mount a private /tmp, on Linux' : false,
}
const onPosix = { skip: process.platform === 'win32' && 'a lock is no file there' }

/** What a process warns of that makes two mutexes in `home`, with `root` mounted over it in a namespace of its own. */
function warningsIn(folder: LockFolder, root: string, home: string): string[] {
  const program = `
    import { NamedMutex } from '${import.meta.resolve('os-mutex')}'
    process.on('warning', ({ code, message }) => console.log(code, message))
    for (const name of ['a', 'b']) new NamedMutex(name, { directory: '${home}' }).tryAcquire().release()`
  mkdirSync(join(folder.path, root), { recursive: true })
  const script = 'mount --bind "$0" "$1" && exec "$2" --input-type=module -e "$3"'
  const args = ['--mount', 'sh', '-c', script, join(folder.path, root), home, process.execPath, program]
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' })
  assert.equal(status, 0, stderr)
  return stdout.split('\n').filter((line) => line !== '')
}

test('a lock home in the private /tmp of a systemd service, a snap or a login gives one warning', forRoot, async () => {
  await using folder = new LockFolder()
  const home = join(folder.path, 'home')
  mkdirSync(home)
  for (const [root, owner] of [
    ['systemd-private-0123456789abcdef-nginx.service-AbCdEf/tmp', 'PrivateTmp'],
    ['snap-private-tmp/snap.firefox/tmp', 'snap'],
    ['tmp-inst/alice', 'pam_namespace'],
  ] as const) {
    const warnings = warningsIn(folder, root, home)
    assert.equal(warnings.length, 1, warnings.join('\n'))
    for (const word of ['OS_MUTEX_PRIVATE_DIRECTORY', home, owner, 'OS_MUTEX_DIR']) {
      assert.ok(warnings[0]?.includes(word), `${warnings[0]} has no ${word}`)
    }
  }
})

test('an ordinary mount over the lock home gives none', forRoot, async () => {
  await using folder = new LockFolder()
  const home = join(folder.path, 'home')
  mkdirSync(home)
  assert.deepEqual(warningsIn(folder, 'shared/tmp', home), [])
})

test('the mount that counts is the innermost, and of two on one point the later', onPosix, () => {
  const line = (root: string, point: string) => `36 35 98:0 ${root} ${point} rw,noatime master:1 - ext4 /dev/root rw\n`
  const secret = '/tmp/systemd-private-1-a.service-x/tmp'
  const service = 'a systemd service with PrivateTmp=yes'
  assert.equal(privateMount('/tmp', line('/', '/') + line(secret, '/tmp')), service)
  assert.equal(privateMount('/tmp/deep', line('/', '/') + line(secret, '/tmp')), service)
  assert.equal(privateMount('/tmp', line(secret, '/tmp') + line('/', '/tmp')), undefined)
  assert.equal(privateMount('/tmp/deep', line(secret, '/tmp') + line('/', '/tmp/deep')), undefined)
  assert.equal(privateMount('/tmpfiles', line('/', '/') + line(secret, '/tmp')), undefined)
  assert.equal(privateMount('/a b', line('/', '/') + line(secret, '/a\\040b')), service)
})
