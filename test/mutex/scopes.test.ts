import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  watch,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { basename, dirname, join, parse } from 'node:path'
import { test } from 'node:test'
import { MutexAccessError, type NamedMutex } from 'os-mutex'
import { mustBlock } from '../support/kernel-queue.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'
import { isRoot, secondUser, withSecondUser } from '../support/second-user.ts'

const name = 'Global\\scope'
const localName = 'Local\\scope'
const isWindows = process.platform === 'win32'
const onPosix = isWindows
  ? { skip: 'lock files, their modes and owners are POSIX: win32-security and win32-record have their like' }
  : {}
const O_TMPFILE = 0o20_000_000 | constants.O_DIRECTORY

function hasUnnamedFiles(directory: string): boolean {
  try {
    closeSync(openSync(directory, O_TMPFILE | constants.O_RDWR))
    return true
  } catch {
    return false
  }
}

const modeOf = (path: string) => statSync(path).mode & 0o7777

for (const umask of [0o000, 0o022, 0o077, 0o777]) {
  test(
    `under umask ${umask.toString(8).padStart(3, '0')} a Global lock file is open to all, a Local one to its user`,
    onPosix,
    async () => {
      await using folder = new LockFolder()
      const [party, other] = await Promise.all([folder.process(), folder.process()])
      await party.run((_, umask) => void process.umask(umask), umask)
      for (const one of [name, localName]) {
        const lock = await party.acquire(one).lock
        const waiting = other.acquire(one)
        await mustBlock(waiting.lock, folder.fileOf(one), other.pid)
        await lock.release()
        await waiting.lock
        // The lock file, and what else it may have been given as company.
        const directory = dirname(folder.fileOf(one))
        const files = readdirSync(directory).filter((file) => statSync(join(directory, file)).isFile())
        assert.ok(files.includes(basename(folder.fileOf(one))))
        for (const file of files) assert.equal(modeOf(join(directory, file)), one === name ? 0o666 : 0o600, file)
      }
      assert.equal(modeOf(dirname(folder.fileOf(localName))), 0o700)
      assert.ok(
        readdirSync(folder.path).every((file) => !file.includes('~') || file.endsWith('~wait')),
        'nothing temporary stays',
      )
    },
  )
}

// What a process leaves that is killed while it makes a lock file is what it has named by then.
test('on Linux a lock file has no other name before its own', async (t) => {
  await using folder = new LockFolder()
  if (process.platform !== 'linux') return t.skip('other systems rename it')
  if (!hasUnnamedFiles(folder.path)) return t.skip(`the file system of ${folder.path} has no O_TMPFILE: it is renamed`)
  const names = new Set<string>()
  const watcher = watch(folder.path)
  const seen = new Promise<void>((resolve) => {
    watcher.on('change', (_, file) => {
      // What has no name is told by its inode number.
      if (!/^#\d+$/.test(String(file))) names.add(String(file))
      if (file === basename(folder.fileOf(name))) resolve()
    })
  })
  const lock = await folder.mutex(name).acquire()
  await seen
  watcher.close()
  lock.release()
  assert.deepEqual([...names], [basename(folder.fileOf(name))])
})

test('two users share a Global mutex: exclusion, records, waiting and abandonment', withSecondUser, async () => {
  await using folder = new LockFolder().openToAll()
  const users = await Promise.all([folder.process(), folder.process({ uid: secondUser })])
  for (const [first, second] of [users, users.toReversed()]) {
    assert.ok(first && second)
    const one = folder.uniqueName()
    await first.run(() => void process.umask(0o077))
    const lock = await first.acquire(one, { purpose: 'mine' }).lock
    assert.equal(await second.tryAcquire(one), null)
    assert.equal((await second.query(one)).owner?.pid, first.pid)
    assert.equal((await second.query(one)).owner?.purpose, 'mine')
    const waiting = second.acquire(one, { purpose: 'ours' })
    await mustBlock(waiting.lock, folder.fileOf(one), second.pid)
    await lock.release()
    const next = await waiting.lock
    assert.equal((await first.query(one)).owner?.purpose, 'ours')
    await next.release()
  }
  const [root, other] = users
  await other?.acquire(name, { purpose: 'to be abandoned' }).lock
  await other?.kill()
  const lock = await root?.acquire(name).lock
  assert.equal(lock?.previousOwner?.pid, other?.pid)
})

test("one user can't remove another's Global lock file", withSecondUser, async () => {
  await using folder = new LockFolder().openToAll()
  folder.mutex(name).tryAcquire()?.release()
  const other = await folder.process({ uid: secondUser })
  await assert.rejects(
    other.run(({ fs }, path) => fs.unlinkSync(path), folder.fileOf(name)),
    /EPERM/,
  )
})

test('two users do not share a Local mutex', withSecondUser, async () => {
  await using folder = new LockFolder().openToAll()
  const [root, other] = await Promise.all([folder.process(), folder.process({ uid: secondUser })])
  await root.acquire(localName).lock
  assert.notEqual(await other.tryAcquire(localName), null)
  assert.deepEqual((await other.query(localName)).owner?.pid, other.pid)
  const directory = await other.run(({ mutex }, name) => mutex(name).path, localName)
  assert.notEqual(dirname(directory), dirname(folder.fileOf(localName)))
  assert.equal(statSync(dirname(directory)).uid, secondUser)
})

interface Refusal {
  readonly code: 'ERR_MUTEX_LOCK_FILE' | 'ERR_MUTEX_ACCESS_DENIED' | 'ERR_MUTEX_SYSTEM'
  /** What the message names. */
  readonly path: string
  readonly advice: RegExp
}

/** Proves that every way to use the mutex is refused clearly. */
async function isRefused(mutex: NamedMutex, { code, path, advice }: Refusal): Promise<void> {
  const check = (error: Error & { code?: string }) => {
    assert.equal(error.code, code)
    assert.equal(error instanceof MutexAccessError, code === 'ERR_MUTEX_ACCESS_DENIED')
    assert.ok(error.message.includes(path), error.message)
    assert.ok(error.message.includes(JSON.stringify(mutex.name)), error.message)
    assert.match(error.message, advice)
    assert.ok(error.cause instanceof Error)
    return true
  }
  await assert.rejects(mutex.acquire(), check)
  await assert.rejects(mutex.acquire({ timeoutMs: 0 }), check)
  await assert.rejects(
    mutex.withLock(() => assert.fail('never')),
    check,
  )
  assert.throws(() => mutex.tryAcquire(), check)
  assert.throws(() => mutex.acquireSync(), check)
}

const inTheWay: Record<string, (path: string, target: string) => unknown> = {
  'a symbolic link': (path, target) => symlinkSync(target, path),
  'a dangling symbolic link': (path) => symlinkSync('/no/such/target', path),
  'a FIFO': (path) => execFileSync('mkfifo', [path]),
  'a directory': (path) => mkdirSync(path),
  'a hard link': (path, target) => linkSync(target, path),
  'a socket': (path) => new Promise<void>((resolve) => createServer().unref().listen(path, resolve)),
}

for (const [what, put] of Object.entries(inTheWay)) {
  test(`${what} in the place of the lock file is refused and left as it is`, onPosix, async () => {
    await using folder = new LockFolder()
    const [path, target] = [folder.fileOf(name), join(folder.path, 'target')]
    writeFileSync(target, 'precious', { mode: 0o600 })
    utimesSync(target, 1, 1)
    await put(path, target)
    const before = readdirSync(folder.path)
    const mutex = folder.mutex(name)
    await isRefused(mutex, { code: 'ERR_MUTEX_LOCK_FILE', path, advice: /Move it away|find -samefile/ })
    assert.throws(() => mutex.query(), { code: 'ERR_MUTEX_LOCK_FILE' })
    assert.equal(readFileSync(target, 'utf8'), 'precious')
    assert.equal(modeOf(target), 0o600)
    assert.equal(statSync(target).mtimeMs, 1000)
    assert.deepEqual(readdirSync(folder.path), before, 'no file appeared')
    rmSync(path, { recursive: true })
    assert.ok(canTake(mutex), 'once it is removed, all is well')
  })
}

test('whatever stands in the place of the file of the waiting line costs fairness, not locking', onPosix, async () => {
  for (const put of Object.values(inTheWay)) {
    await using folder = new LockFolder()
    const other = await folder.process()
    const [line, target] = [`${folder.fileOf(name)}~wait`, join(folder.path, 'target')]
    writeFileSync(target, 'precious')
    await put(line, target)
    const mutex = folder.mutex(name)
    for (let round = 0; round < 3; round++) {
      const held = await other.acquire(name).lock
      const acquire = mutex.acquire()
      await mustBlock(acquire, folder.fileOf(name), process.pid)
      const aborted = mutex.acquire({ signal: AbortSignal.timeout(2) })
      await assert.rejects(aborted, { name: 'TimeoutError' })
      await held.release()
      ;(await acquire).release()
    }
    assert.equal(readFileSync(target, 'utf8'), 'precious')
  }
})

test('a stranger who locks the file of the waiting line for good costs fairness, not locking', onPosix, async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const mutex = folder.mutex(name)
  const stranger = spawn('flock', [`${folder.fileOf(name)}~wait`, 'sh', '-c', 'echo locked; cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(stranger.stdout, 'data')
  for (let round = 0; round < 20; round++) {
    const held = await other.acquire(name).lock
    const acquire = mutex.acquire()
    await held.release()
    ;(await acquire).release()
    ;(await mutex.acquire()).release()
  }
  stranger.stdin.end()
  await once(stranger, 'exit')
})

const userDirectories: Record<string, (path: string) => unknown> = {
  'a symbolic link to a directory': (path) => [
    mkdirSync(`${path}-real`, { mode: 0o700 }),
    symlinkSync(`${path}-real`, path),
  ],
  'a file': (path) => writeFileSync(path, ''),
  'a directory that its group may write to': (path) => [mkdirSync(path), chmodSync(path, 0o770)],
  'a directory that all may write to': (path) => [mkdirSync(path), chmodSync(path, 0o1777)],
  ...(isRoot
    ? {
        "another user's directory": (path) => [
          mkdirSync(path, { mode: 0o700 }),
          chownSync(path, secondUser, secondUser),
        ],
      }
    : {}),
}

for (const [what, put] of Object.entries(userDirectories)) {
  test(`${what} in the place of the Local directory is refused, and Global mutexes go on`, onPosix, async () => {
    await using folder = new LockFolder()
    const mutex = folder.mutex(localName)
    const path = dirname(mutex.path)
    put(path)
    await isRefused(mutex, { code: 'ERR_MUTEX_ACCESS_DENIED', path, advice: /belongs to user \d+.*repair/ })
    if (statSync(path).isDirectory()) assert.deepEqual(readdirSync(path), [])
    assert.ok(canTake(folder.mutex(name)))
    rmSync(path, { recursive: true })
    assert.ok(canTake(mutex))
  })
}

/** As {@link isRefused}, in a process without root's rights. */
async function isRefusedUnprivileged(folder: LockFolder, name: string, path: string, says: RegExp): Promise<void> {
  const party = await folder.process(isRoot ? { uid: secondUser } : {})
  for (const acquire of [
    () => party.acquire(name).lock,
    () => party.tryAcquire(name),
    () => party.acquire(name, { sync: true }).lock,
  ]) {
    await assert.rejects(acquire, (error: Error & { code?: string }) => {
      assert.equal(error.code, 'ERR_MUTEX_ACCESS_DENIED')
      assert.ok(error.message.includes(path), error.message)
      assert.match(error.message, says)
      return true
    })
  }
}

const unprivileged = isRoot ? withSecondUser : onPosix

test('a lock home that this user may not write to is refused', unprivileged, async () => {
  await using folder = new LockFolder()
  chmodSync(folder.path, 0o555)
  await isRefusedUnprivileged(folder, name, folder.fileOf(name), /OS_MUTEX_DIR/)
  await isRefusedUnprivileged(folder, localName, folder.path, /OS_MUTEX_DIR/)
  chmodSync(folder.path, 0o700)
})

test('a lock file that this user may not write to is refused', unprivileged, async () => {
  await using folder = new LockFolder().openToAll()
  writeFileSync(folder.fileOf(name), '')
  chmodSync(folder.fileOf(name), 0o444)
  await isRefusedUnprivileged(folder, name, folder.fileOf(name), /mode 666/)
})

test('a lock home that does not exist, or is no directory, is refused', async () => {
  await using folder = new LockFolder()
  writeFileSync(join(folder.path, 'file'), '')
  for (const home of ['missing', 'missing/deeper', 'file']) {
    for (const one of [name, localName]) {
      const mutex = folder.mutex(one, { directory: join(folder.path, home) })
      // Windows does not report what stands there.
      const advice = home === 'file' && !isWindows ? /Remove that file or link, or choose another/ : /Create it/
      await isRefused(mutex, { code: 'ERR_MUTEX_LOCK_FILE', path: join(folder.path, home), advice })
    }
  }
  assert.deepEqual(readdirSync(folder.path), ['file'])
})

test('a process without a free descriptor gets a clear error, and nothing stays held', {
  skip: process.platform !== 'linux' && 'it uses up the limit of descriptors, which is low on Linux only',
}, async () => {
  await using folder = new LockFolder()
  const party = await folder.process()
  const errors = await party.run(async ({ NamedMutex, directory, fs }, name) => {
    const mutex = new NamedMutex(name, { directory })
    const files: number[] = []
    try {
      for (;;) files.push(fs.openSync('/dev/null', 'r'))
    } catch {}
    const seen: unknown[] = []
    for (const use of [() => mutex.acquire(), () => mutex.tryAcquire(), () => mutex.acquireSync()]) {
      try {
        seen.push(await use())
      } catch (error) {
        seen.push([(error as { code: string }).code, (error as Error).message])
      }
    }
    for (const file of files) fs.closeSync(file)
    mutex.tryAcquire()?.release()
    return seen as [string, string][]
  }, name)
  for (const [code, message] of errors) {
    assert.equal(code, 'ERR_MUTEX_SYSTEM')
    assert.match(message, /EMFILE/)
    assert.ok(message.includes(folder.fileOf(name)))
  }
  assert.equal(errors.length, 3)
  assert.equal((await folder.nextOwner(name)).abandoned, false)
})

test('OS_MUTEX_DIR moves the lock home, the option "directory" goes before it, and neither TMPDIR nor XDG_RUNTIME_DIR matters', async () => {
  await using folder = new LockFolder()
  const party = await folder.process()
  const paths = await party.run(({ NamedMutex, directory }) => {
    const pathOf = (directory?: string) =>
      new NamedMutex('Global\\x', directory === undefined ? {} : { directory }).path
    process.chdir(directory)
    delete process.env.OS_MUTEX_DIR
    process.env.TMPDIR = process.env.XDG_RUNTIME_DIR = '/elsewhere'
    const fixed = pathOf()
    process.env.OS_MUTEX_DIR = ''
    const empty = pathOf()
    process.env.OS_MUTEX_DIR = directory
    return { fixed, empty, moved: pathOf(), option: pathOf('/option'), relative: pathOf('sub/../here') }
  })
  const usual = isWindows ? join(process.env.ProgramData ?? '', 'os-mutex') : '/tmp'
  assert.deepEqual(paths, {
    fixed: join(usual, '.os-mutex-x'),
    empty: join(usual, '.os-mutex-x'),
    moved: join(folder.path, '.os-mutex-x'),
    option: join(parse(folder.path).root, 'option', '.os-mutex-x'),
    relative: join(folder.path, 'here/.os-mutex-x'),
  })
})

test('mutexes in different lock homes have nothing to do with each other', async () => {
  await using folder = new LockFolder()
  await using other = new LockFolder()
  using lock = folder.mutex(name).tryAcquire()
  assert.ok(lock && canTake(other.mutex(name)))
})
