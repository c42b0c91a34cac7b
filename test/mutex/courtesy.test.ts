// Letting others go first, bounded on both sides: who waits and runs gets in, who waits and does not run costs little.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import type { NamedMutex } from 'os-mutex'
import { untilQueued } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { secondUser, withSecondUser } from '../support/second-user.ts'

const name = 'Global\\courtesy'
/** Windows hands a released mutex over, and macOS does not show who waits. */
const onLinux = { skip: process.platform !== 'linux' && 'courtesy is for flock, and its tests read /proc/locks' }

/**
 * Tries to take the mutex in a loop for so long, and answers which share of the time it was refused. Time in which this process did
 * not run at all counts for neither.
 */
async function refusedShare(mutex: NamedMutex, ms: number): Promise<number> {
  let [refused, taken] = [0, 0]
  const startedAt = performance.now()
  while (performance.now() - startedAt < ms) {
    const before = process.cpuUsage()
    const lock = mutex.tryAcquire()
    lock?.release()
    const { user, system } = process.cpuUsage(before)
    if (lock === null) refused += user + system
    else taken += user + system
    if (refused + taken > 5_000) await new Promise((resolve) => setImmediate(resolve))
  }
  return refused / (refused + taken)
}

/** A free mutex, and who waits for it and stands still. */
async function besideStoppedWaiter(folder: LockFolder): Promise<[NamedMutex, Party]> {
  const [mutex, waiter] = [folder.mutex(name), await folder.process()]
  const held = mutex.tryAcquire()
  waiter.acquire(name)
  await untilQueued(mutex.path, waiter.pid)
  await waiter.freeze()
  held?.release()
  return [mutex, waiter]
}

test('a waiter that is stopped costs the others about a tenth of their time', onLinux, async () => {
  await using folder = new LockFolder()
  const [mutex, waiter] = await besideStoppedWaiter(folder)
  // A busy machine may hold one of them up, and not all.
  const shares: number[] = []
  for (let round = 0; round < 3; round++) shares.push(await refusedShare(mutex, 1_000))
  const percents = shares.map((share) => (share * 100).toFixed(1))
  assert.ok(Math.min(...shares) < 0.2, `refused for ${percents.join(', ')} % of the time`)
  assert.ok(Math.max(...shares) > 0.01, 'it is given its chances')
  waiter.thaw()
})

test('a stopped waiter costs no more where acquires give up before their patience ends', onLinux, async () => {
  await using folder = new LockFolder()
  const [mutex, waiter] = await besideStoppedWaiter(folder)
  const between: number[] = []
  for (let refusal = 0; refusal < 7; refusal++) {
    const startedAt = performance.now()
    let taken = 0
    for (;;) {
      const lock = await mutex.acquire({ timeoutMs: 1 }).catch(() => null)
      if (lock === null || performance.now() - startedAt > 2_000) break
      lock.release()
      taken++
    }
    between.push(taken)
    // Longer than what is left of any patience.
    await sleep(40)
  }
  const median = between.toSorted((a, b) => a - b)[3] as number
  assert.ok(median > 10, `between two refusals it acquired ${between.join(', ')} times`)
  waiter.thaw()
})

/** A program in Python that says when it has a place in line, and then marks the lock file, stays or leaves, for 20 s. */
const pretender = (leaves: boolean) => `
import fcntl, os, sys, time
queue = os.open(sys.argv[1] + '~wait', os.O_RDWR | os.O_CREAT, 0o666)
file = os.open(sys.argv[1], os.O_RDWR)
end = time.time() + 20
while time.time() < end:
  fcntl.flock(queue, fcntl.LOCK_SH)
  os.pwrite(file, b'w', 0)
  print('in line', flush=True)
  time.sleep(0.006)
  if ${leaves ? 'True' : 'False'}: fcntl.flock(queue, fcntl.LOCK_UN)
  time.sleep(0.0005)
`
for (const how of ['stays in line', 'comes and leaves']) {
  test(`another user who only pretends to wait, and ${how}, costs no more than that`, withSecondUser, async () => {
    await using folder = new LockFolder().openToAll()
    const mutex = folder.mutex(name)
    mutex.tryAcquire()?.release()
    const args = ['-c', pretender(how === 'comes and leaves'), mutex.path]
    const other = spawn('python3', args, { uid: secondUser, gid: secondUser, stdio: ['ignore', 'pipe', 'inherit'] })
    await once(other.stdout, 'data')
    other.stdout.resume()
    const share = await refusedShare(mutex, 1_500)
    assert.ok(share < 0.2, `refused for ${(share * 100).toFixed(1)} % of the time`)
    assert.ok(share > 0.001, 'others step aside for him')
    other.kill('SIGKILL')
    await once(other, 'exit')
  })
}

/** Lets a process run for a moment after every 20 ms in which it stands still. */
function slowDown(pid: number): ChildProcess {
  return spawn('sh', ['-c', 'while kill -STOP $0; do sleep 0.02; kill -CONT $0; sleep 0.001; done', String(pid)])
}

test('a waiter that is slow to wake up gets in all the same, beside a process that never pauses', onLinux, async () => {
  await using folder = new LockFolder()
  const [mutex, waiter] = [folder.mutex(name), await folder.process()]
  const took: number[] = []
  for (let round = 0; round < 5; round++) {
    const held = mutex.tryAcquire()
    const acquire = waiter.acquire(name)
    await untilQueued(mutex.path, waiter.pid)
    let isIn = false
    const got = acquire.lock.then(async (lock) => {
      isIn = true
      await lock.release()
    })
    const brake = slowDown(waiter.pid)
    held?.release()
    const startedAt = performance.now()
    while (!isIn && performance.now() - startedAt < 10_000) {
      const lock = mutex.tryAcquire()
      const until = performance.now() + 1
      while (performance.now() < until);
      lock?.release()
      if (lock === null || Math.random() < 0.05) await new Promise((resolve) => setImmediate(resolve))
    }
    took.push(performance.now() - startedAt)
    brake.kill()
    await once(brake, 'exit')
    waiter.thaw()
    await got
  }
  const median = took.sort((a, b) => a - b)[2] as number
  assert.ok(median < 1_000, `${took.map(Math.round).join(', ')} ms`)
})
