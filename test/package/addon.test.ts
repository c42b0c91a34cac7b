import assert from 'node:assert/strict'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { test } from 'node:test'
import { mustBlock } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { ifCountable, resources, spareHandles } from '../support/resources.ts'

const name = 'Global\\addon'

// Windows has no signals and no exec, macOS no /proc that would tell.
const onLinux = process.platform === 'linux' ? {} : { skip: 'signals and exec, as /proc shows them (Linux)' }

/** A set of signals as /proc shows it: bit n - 1 stands for signal n. */
function signalSet(status: string, field: string): bigint {
  return BigInt(`0x${new RegExp(`^${field}:\\s*([0-9a-f]+)`, 'm').exec(status)?.[1]}`)
}

// glibc and musl keep the first real-time signals for themselves: 32 to 34 (signal(7), nptl(7)).
const ofTheLibrary = 0b111n << 31n

/** Under qemu, /proc tells the emulator's own signal masks. */
const ownSignalMasks =
  process.env.OS_MUTEX_TEST_EMULATOR === 'qemu'
    ? { skip: "/proc tells qemu's signal masks, not the program's" }
    : onLinux

test('no signal handler is installed, neither by loading nor by waiting nor by giving up', onLinux, async () => {
  await using folder = new LockFolder()
  const [owner, party] = await Promise.all([folder.process(), folder.process()])
  const caught = async () => {
    const status = await party.run(({ fs }) => fs.readFileSync('/proc/self/status', 'latin1'))
    return { caught: signalSet(status, 'SigCgt') & ~ofTheLibrary, ignored: signalSet(status, 'SigIgn') }
  }
  const before = await caught()
  await owner.acquire(name).lock
  const acquire = party.acquire(name)
  await mustBlock(acquire.lock, folder.fileOf(name), party.pid)
  assert.deepEqual(await caught(), before)
  await acquire.abort()
  await assert.rejects(acquire.lock, /aborted/)
  assert.deepEqual(await caught(), before)
  // A bare Node, which has not loaded the addon, is no different.
  const bare = await party.run(({ execFileSync }) =>
    String(execFileSync(process.execPath, ['-p', 'require("fs").readFileSync("/proc/self/status", "latin1")'])),
  )
  const additional = before.caught & ~signalSet(bare, 'SigCgt')
  assert.equal(additional & ~(1n << 1n), 0n, 'but for SIGINT, perhaps')
})

test("the addon's threads take none of the process's signals", ownSignalMasks, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  const held = await owner.acquire(name).lock
  const acquire = folder.mutex(name).acquire()
  await mustBlock(acquire, folder.fileOf(name), process.pid)
  const statuses = readdirSync('/proc/self/task').map((id) => readFileSync(`/proc/self/task/${id}/status`, 'latin1'))
  const waiters = statuses.filter((status) => /^Name:\s*os-mutex$/m.test(status))
  assert.equal(waiters.length, 1)
  // SIGKILL and SIGSTOP can't be blocked.
  const blocked = signalSet(waiters[0] ?? '', 'SigBlk')
  for (let signal = 1; signal <= 31; signal++) {
    if (signal === 9 || signal === 19) continue
    assert.notEqual(blocked & (1n << BigInt(signal - 1)), 0n, `signal ${signal}`)
  }
  await held.release()
  ;(await acquire).release()
})

test('every descriptor of a lock file closes on exec', onLinux, async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const held = mutex.tryAcquire()
  const acquire = folder.mutex(name).acquire()
  await mustBlock(acquire, mutex.path, process.pid)
  mutex.query()
  let checked = 0
  for (const fd of readdirSync('/proc/self/fd')) {
    if (!linkOf(fd).startsWith(folder.path)) continue
    const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? ''
    assert.equal(Number.parseInt(flags, 8) & 0o2000000, 0o2000000, linkOf(fd))
    checked++
  }
  assert.ok(checked >= 2, "the owner's and the waiter's")
  held?.release()
  ;(await acquire).release()
})

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return '' // the one that listed the directory
  }
}

test('thousands of waits, granted and given up, cost no descriptor and no thread', ifCountable, async () => {
  await using folder = new LockFolder()
  const [first, second] = [folder.mutex(name), folder.mutex(name)]
  const round = async (isGranted: boolean) => {
    const held = first.tryAcquire()
    assert.ok(held)
    const controller = new AbortController()
    const acquire = second.acquire({ signal: controller.signal })
    if (isGranted) held.release()
    else controller.abort()
    await acquire.then(
      (lock) => lock.release(),
      () => held.release(),
    )
  }
  await round(true)
  const before = resources()
  for (let times = 0; times < 2000; times++) await round(times % 2 === 0)
  await round(true)
  const after = resources()
  assert.ok(
    after.handles <= before.handles + spareHandles,
    `${before.handles} descriptors or handles became ${after.handles}`,
  )
  assert.ok(after.threads <= before.threads, `${before.threads} threads became ${after.threads}`)
})
