// What an acquire that gave up says: who holds the mutex, and what to do next.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { acquireAll, type MutexTimeoutError, type NamedMutex, type OwnerInfo } from 'os-mutex'
import { kernelTellsPids } from '../support/kernel-queue.ts'
import { lockFileBytes } from '../support/lock-file-bytes.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { describeHolder, describeOwner, timeoutError } from '../support/mutex-internals.ts'

const name = 'Global\\words'
const iso = '\\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z'

async function timedOut(mutex: NamedMutex): Promise<MutexTimeoutError> {
  return mutex.acquire({ timeoutMs: 0 }).then(
    () => assert.fail('it was free'),
    (error) => error,
  )
}

test('a lock of this thread is named as such, with what ends the wait', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name, { app: 'another name' })
  using lock = mutex.tryAcquire({ purpose: 'first' })
  lock?.report({ done: 4, total: 10, unit: 'files' })
  const error = await timedOut(folder.mutex(name))
  assert.match(
    error.message,
    new RegExp(
      `^Mutex "Global\\\\\\\\words" was not free within 0 ms\\. It is held by this process \\(pid ${process.pid}, this thread\\) ` +
        `since ${iso}, doing "first", at 4 of 10 files\\. ` +
        'Wait longer \\(timeoutMs\\), or let this process finish its work first: a mutex is not reentrant\\.$',
    ),
  )
  assert.equal(error.held, true)
})

test('a lock of another thread of this process is named with its thread, on both sides', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const thread = await folder.thread()
  const theirs = await thread.acquire(name).lock
  const { threadId } = mutex.query().owner ?? assert.fail()
  assert.match(
    (await timedOut(mutex)).message,
    new RegExp(`by this process \\(pid ${process.pid}, worker thread ${threadId}\\)`),
  )
  await theirs.release()
  using _ = mutex.tryAcquire()
  await assert.rejects(thread.acquire(name, { timeoutMs: 0 }).lock, {
    message: new RegExp(`by this process \\(pid ${process.pid}, the main thread\\)`),
  })
})

test('a lock of another process is not called ours, and the message ends with what to do', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name, { purpose: 'theirs' }).lock
  const { message } = await timedOut(folder.mutex(name))
  assert.match(
    message,
    new RegExp(`It is held by "party-main\\.js" \\(pid ${owner.pid}, host .*doing "theirs"\\. Wait longer`),
  )
  if (kernelTellsPids) assert.match(message, /, or end that process\.$/)
})

test("an owner whose lock was garbage collected is told of, with this process's cure and another's", async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const owner = await folder.process()
  await owner.acquire(name, { purpose: 'single instance' }).lock
  const { confirmed, ...record } = mutex.query().owner ?? assert.fail()
  writeFileSync(mutex.path, lockFileBytes('held', JSON.stringify({ ...record, collected: true })), { flag: 'r+' })
  assert.equal(mutex.query().owner?.collected, true)
  const collected =
    'doing "single instance"; its lock object was garbage collected while held, so nothing can release it until that process or thread ends'
  const { message } = await timedOut(mutex)
  assert.ok(message.includes(`${collected}. End that process; in its code, keep a reference to each lock`), message)
  await assert.rejects(owner.acquire(name, { timeoutMs: 0 }).lock, ({ message }: Error) => {
    assert.ok(message.includes(`${collected}. Restart this process, and keep a reference to each lock`), message)
    return true
  })
  for (const not of [false, 1, 'true', null]) {
    writeFileSync(mutex.path, lockFileBytes('held', JSON.stringify({ ...record, collected: not })), { flag: 'r+' })
    assert.equal('collected' in (mutex.query().owner ?? {}), false)
  }
})

test('a mutex that nobody holds by the time its owner is looked up is not said to be held by a stranger', () => {
  const error = timeoutError('x', 50, { held: false })
  assert.equal(
    error.message,
    'Mutex "x" was not free within 50 ms. It was free again when its owner was looked up: other acquires were queued ' +
      'before this one, or it was released just too late. Try again, or wait longer (timeoutMs).',
  )
  assert.deepEqual([error.held, error.owner, error.timeoutMs, error.mutexName], [false, undefined, 50, 'x'])
})

test('acquireAll says it of the mutex that it stopped at, with its own limit', async () => {
  await using folder = new LockFolder()
  const [first, second] = [folder.mutex('Global\\a'), folder.mutex('Global\\b')]
  using _ = second.tryAcquire({ purpose: 'in the way' })
  await assert.rejects(acquireAll([first, second], { timeoutMs: 20 }), {
    held: true,
    message: /^Mutex "Global\\\\b" was not free within 20 ms\. It is held by this process .*doing "in the way"\. Wait/,
  })
})

test('an owner without a record, or known by its record only, gets the advice that fits', () => {
  assert.equal(
    describeHolder({ held: true }, 'loadTimeoutMs'),
    'It is held by an owner that could not be identified (perhaps another program). ' +
      'Wait longer (loadTimeoutMs), or find the program that holds it and end it.',
  )
  assert.equal(
    describeHolder({ held: true, owner: { pid: 12, app: 'x', host: 'a', threadId: 3, confirmed: false } }, 'timeoutMs'),
    'It is held by "x" (pid 12, host a, worker thread 3, according to its own record). ' +
      'Wait longer (timeoutMs), or end that process after checking that it is the right one.',
  )
})

test('a record that only shares the pid with this process is not called this process', () => {
  const namesakes: OwnerInfo[] = [
    { pid: process.pid },
    { pid: process.pid, confirmed: false },
    { pid: process.pid, processStart: 1, bootId: 'x', confirmed: false },
    { pid: process.pid, pidSpace: 1, confirmed: true },
  ]
  for (const owner of namesakes) assert.doesNotMatch(describeOwner(owner), /this (process|thread)/)
  assert.match(describeOwner({ pid: process.pid, confirmed: true }), /^this process \(pid \d+\)$/)
})
