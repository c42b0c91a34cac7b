import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { assertQueue, kernelTells, kernelTellsPids, mustBlock, untilQueued } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { until } from '../support/until.ts'
import { foreignExe } from '../support/win32/foreign.ts'
import { objectNameOf } from '../support/win32/mutex-line.ts'

const name = 'Global\\foreign'

interface Program {
  readonly command: string
  /** Locks the file, says "held", keeps the lock until its input ends, says "done". */
  readonly args: (path: string) => string[]
}

const onPosix: Record<string, Program> = {
  'flock(1)': {
    command: 'flock',
    args: (path) => ['--exclusive', path, 'sh', '-c', 'echo held; cat; echo done'],
  },
  'Python’s fcntl.flock': {
    command: 'python3',
    args: (path) => [
      '-c',
      'import fcntl, sys\n' +
        'with open(sys.argv[1], "a") as file:\n' +
        '  fcntl.flock(file, fcntl.LOCK_EX)\n' +
        '  print("held", flush=True)\n' +
        '  sys.stdin.read()\n' +
        '  fcntl.flock(file, fcntl.LOCK_UN)\n' +
        '  print("done", flush=True)\n' +
        '  sys.exit(0)',
      path,
    ],
  },
}

const isWindows = process.platform === 'win32'
const onWindows: Record<string, Program> = {
  'A program that calls CreateMutex': {
    command: foreignExe,
    args: (path) => ['hold', objectNameOf(path)],
  },
}
const programs = isWindows ? onWindows : onPosix

/** Where it belongs to the system, its absence is a failure. */
const withFlock = ['darwin', 'win32'].includes(process.platform) ? { skip: 'macOS and Windows have no flock(1)' } : {}

class Foreigner implements AsyncDisposable {
  readonly #process: ChildProcess
  #output = ''

  constructor({ command, args }: Program, path: string) {
    this.#process = spawn(command, args(path), { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#process.stdout?.on('data', (chunk) => {
      this.#output += chunk
    })
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  has(): Promise<void> {
    return until('it says that it holds the lock', () => this.#output.includes('held'))
  }

  get hasIt(): boolean {
    return this.#output.includes('held')
  }

  async letGo(): Promise<void> {
    this.#process.stdin?.end()
    if (this.#process.exitCode === null) await once(this.#process, 'exit')
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    this.#process.kill('SIGKILL')
    await once(this.#process, 'exit')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin?.end() // also for a grandchild, which outlives flock(1)
    await this.kill()
  }
}

for (const [what, program] of Object.entries(programs)) {
  const options = program.command === 'flock' ? withFlock : {}

  test(`${what} as the owner excludes us, and we get the lock when it lets go`, options, async () => {
    await using folder = new LockFolder()
    const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
    mutex.tryAcquire()?.release() // so that the file exists and has a record of an earlier owner
    await using owner = new Foreigner(program, path)
    await owner.has()
    assert.equal(mutex.tryAcquire(), null)
    await assert.rejects(mutex.acquire({ timeoutMs: 10 }), {
      code: 'ERR_MUTEX_TIMEOUT',
      message: kernelTellsPids ? new RegExp(`pid ${owner.pid}`) : /held by/,
    })
    assert.deepEqual(
      mutex.query(),
      kernelTellsPids ? { held: true, owner: { pid: owner.pid, confirmed: true } } : { held: true },
    )
    const acquire = mutex.acquire()
    await mustBlock(acquire, path, process.pid)
    await owner.letGo()
    const lock = await acquire
    assert.equal(lock.abandoned, false)
    assert.equal(mutex.query().owner?.pid, process.pid)
    lock.release()
  })

  test(`${what} waits for us, and has the lock when we release`, options, async () => {
    await using folder = new LockFolder()
    const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
    const lock = mutex.tryAcquire()
    await using waiter = new Foreigner(program, path)
    if (kernelTells) await untilQueued(path, waiter.pid)
    assert.equal(waiter.hasIt, false)
    lock?.release()
    await waiter.has()
    assert.equal(mutex.tryAcquire(), null)
    await waiter.letGo()
    assert.equal((await folder.nextOwner(name)).abandoned, false)
  })

  test(`${what} can make the lock file, and its death frees the lock`, options, async () => {
    await using folder = new LockFolder()
    const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
    await using owner = new Foreigner(program, path)
    await owner.has()
    const acquire = mutex.acquire()
    await mustBlock(acquire, path, process.pid)
    // flock(1) shares its lock with the command that it runs: that has to end, too.
    const ended = owner.kill()
    if (program.command === 'flock') await owner.letGo()
    await ended
    const lock = await acquire
    // It left no record, and flock tells nothing. Windows itself does.
    assert.equal(lock.abandoned, isWindows)
    assert.equal(lock.previousOwner, undefined)
    lock.release()
  })

  test(`an abandonment that ${what} walks over is told to our next owner`, options, async () => {
    await using folder = new LockFolder()
    const path = folder.fileOf(name)
    const owner = await folder.process()
    await owner.acquire(name).lock
    await using walker = new Foreigner(program, path)
    if (kernelTells) await untilQueued(path, walker.pid)
    await owner.kill()
    await walker.has()
    const mutex = folder.mutex(name)
    assert.equal(mutex.query().held, true)
    assert.notEqual(mutex.query().owner?.pid, owner.pid)
    if (kernelTellsPids)
      assert.deepEqual(mutex.query().owner, { pid: walker.pid, confirmed: true }, 'not the dead owner')
    await walker.letGo()
    assert.equal((await folder.nextOwner(name)).previousOwner?.pid, owner.pid)
  })
}

test('a shared lock of another program excludes us, too', {
  ...withFlock,
}, async () => {
  await using folder = new LockFolder()
  const [mutex, path] = [folder.mutex(name), folder.fileOf(name)]
  const shared: Program = { command: 'flock', args: (path) => ['--shared', path, 'sh', '-c', 'echo held; cat'] }
  await using reader = new Foreigner(shared, path)
  await reader.has()
  assert.equal(mutex.tryAcquire(), null)
  assert.equal(mutex.query().held, true)
  const acquire = mutex.acquire()
  await mustBlock(acquire, path, process.pid)
  await reader.letGo()
  ;(await acquire).release()
})

test('programs that the owner started do not keep its lock when it dies', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const path = folder.fileOf(name)
  const waiterToo = 'Global\\awaited'
  const other = await folder.process()
  await other.acquire(waiterToo).lock
  await owner.acquire(name).lock
  const waiting = owner.acquire(waiterToo)
  await mustBlock(waiting.lock, folder.fileOf(waiterToo), owner.pid)
  const pids = await owner.run(({ spawn, execFileSync }) => {
    const idle = ['-e', 'setTimeout(() => {}, 60_000)']
    // Detached, since Windows lets the others die with it.
    const silent = spawn(process.execPath, idle, { detached: true, stdio: 'ignore' })
    const heir = spawn(process.execPath, idle, { detached: true, stdio: ['ignore', 'ignore', 'inherit'] })
    execFileSync(process.execPath, ['--version'])
    return [silent.pid ?? 0, heir.pid ?? 0]
  })
  try {
    for (const pid of pids) assert.ok(process.kill(pid, 0), 'it runs')
    await owner.kill()
    for (const pid of pids) assert.ok(process.kill(pid, 0), 'it outlives its owner')
    const lock = await folder.mutex(name).acquire({ timeoutMs: 5000 })
    assert.equal(lock.previousOwner?.pid, owner.pid)
    if (kernelTells) assertQueue(folder.fileOf(waiterToo), [other.pid], [])
    if (kernelTells) assertQueue(path, [process.pid], [])
    lock.release()
  } finally {
    for (const pid of pids) process.kill(pid, 'SIGKILL')
  }
})
