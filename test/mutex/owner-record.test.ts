import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { hostname } from 'node:os'
import { after, before, test } from 'node:test'
import type { OwnerInfo } from 'os-mutex'
import { kernelTellsPids } from '../support/kernel-queue.ts'
import { lockFileBytes } from '../support/lock-file-bytes.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { until } from '../support/until.ts'

const name = 'Global\\record'
const onLinux = process.platform === 'linux'
const onWindows = process.platform === 'win32'

test('the record says who holds the mutex, since when and why', async () => {
  await using folder = new LockFolder()
  const before = Date.now()
  const mutex = folder.mutex(name, { app: 'my app' })
  const lock = await mutex.acquire({ purpose: 'load phi-3' })
  const { held, owner } = folder.mutex(name).query()
  assert.equal(held, true)
  assert.equal(owner?.pid, process.pid)
  assert.equal(owner.app, 'my app')
  assert.equal(owner.host, hostname())
  assert.equal(owner.purpose, 'load phi-3')
  assert.equal(owner.threadId, 0)
  assert.equal(owner.progress, undefined)
  assert.ok((owner.since ?? 0) >= before && (owner.since ?? 0) <= Date.now())
  if (onLinux) {
    assert.equal(owner.bootId, readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim())
    assert.equal(owner.processStart, Number(readFileSync('/proc/self/stat', 'latin1').split(') ')[1]?.split(' ')[19]))
  }
  lock.release()
  assert.deepEqual(mutex.query(), { held: false })
})

test('every other process and thread reads the same record', async () => {
  await using folder = new LockFolder()
  const [owner, thread, other] = await Promise.all([folder.process(), folder.thread(), folder.process()])
  await owner.acquire(name, { purpose: 'be read' }).lock
  const seen = folder.mutex(name).query()
  assert.equal(seen.owner?.pid, owner.pid)
  assert.equal(seen.owner.purpose, 'be read')
  assert.equal(seen.owner.app, 'party-main.js')
  // What the kernel says beside it depends on who asks, where it names no pid to other processes.
  for (const party of [owner, thread, other]) {
    const state = await party.query(name)
    assert.deepEqual({ ...state.owner, confirmed: seen.owner.confirmed }, seen.owner)
  }
})

test("a worker thread's lock is recorded with its thread", async () => {
  await using folder = new LockFolder()
  const thread = await folder.thread()
  await thread.acquire(name).lock
  const { owner } = folder.mutex(name).query()
  assert.equal(owner?.pid, process.pid)
  assert.ok((owner.threadId ?? 0) > 0)
})

test('each acquisition has its own record', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  for (const purpose of ['a long purpose, much longer than the next', 'short', undefined, 'medium sized']) {
    for (const acquire of [
      mutex.acquire.bind(mutex),
      async (o: object) => mutex.acquireSync(o),
      async (o: object) => mutex.tryAcquire(o),
    ]) {
      const lock = await acquire(purpose === undefined ? {} : { purpose })
      assert.equal(mutex.query().owner?.purpose, purpose)
      lock?.release()
    }
  }
  const held = mutex.tryAcquire({ purpose: 'first' })
  const next = mutex.acquire({ purpose: 'second' })
  assert.equal(mutex.query().owner?.purpose, 'first')
  held?.release()
  const lock = await next
  assert.equal(mutex.query().owner?.purpose, 'second')
  lock.release()
})

test('a query neither takes nor holds up the mutex, nor does it create anything', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  assert.deepEqual(mutex.query(), { held: false })
  assert.throws(() => statSync(mutex.path), { code: 'ENOENT' })
  const other = await folder.process()
  const rounds = other.run(({ mutex }, name) => {
    let failed = 0
    for (let round = 0; round < 3000; round++) {
      const lock = mutex(name).tryAcquire()
      if (lock === null) failed++
      lock?.release()
    }
    return failed
  }, name)
  let isDone = false
  void rounds.then(() => {
    isDone = true
  })
  for (let count = 0; !isDone; count++) {
    mutex.query()
    if (count % 10 === 0) await new Promise((resolve) => setImmediate(resolve))
  }
  assert.equal(await rounds, 0)
})

test('progress is seen by everybody while it is held, and each report replaces the one before', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const lock = await folder.mutex(name).acquire({ purpose: 'download' })
  const before = Number(process.hrtime.bigint() / 1_000_000n)
  for (const [index, progress] of [
    { done: 0, total: 100, unit: 'bytes' },
    { done: 99.5, total: 1e15 },
    { done: 100 },
  ].entries()) {
    lock.report(progress)
    const { owner } = await other.query(name)
    const { sequence, monotonicMs, ...told } = owner?.progress ?? assert.fail()
    assert.deepEqual(told, progress)
    assert.equal(sequence, index + 1)
    assert.ok(monotonicMs >= before && monotonicMs <= Number(process.hrtime.bigint() / 1_000_000n))
    assert.equal(owner?.purpose, 'download')
  }
  lock.release()
  const next = await other.acquire(name).lock
  assert.equal(folder.mutex(name).query().owner?.progress, undefined, "it was the earlier owner's")
  await next.release()
})

test('a report that is no progress is refused and changes nothing', async () => {
  await using folder = new LockFolder()
  const mutex = folder.mutex(name)
  const lock = await mutex.acquire()
  lock.report({ done: 1 })
  for (const bad of [
    null,
    1,
    {},
    { done: -1 },
    { done: Number.NaN },
    { done: Number.POSITIVE_INFINITY },
    { done: '1' },
    { done: 1, total: -1 },
    { done: 1, unit: 2 },
  ]) {
    assert.throws(() => lock.report(bad as never), { name: 'TypeError', code: 'ERR_MUTEX_INVALID_ARGUMENT' })
  }
  assert.equal(mutex.query().owner?.progress?.done, 1)
  lock.release()
})

test('long texts are cut and every text survives: purpose, app and unit of any Unicode', async () => {
  await using folder = new LockFolder()
  const texts = [
    'x'.repeat(10_000),
    '😀'.repeat(5000),
    '\u0001'.repeat(5000),
    '"\\'.repeat(5000),
    '日本語\n\t"quoted"\u2028',
    '\ud800 lone',
    '',
  ]
  for (const text of texts) {
    const mutex = folder.mutex(name, { app: text })
    const lock = await mutex.acquire({ purpose: text })
    lock.report({ done: 1, total: 2, unit: text })
    const { owner } = folder.mutex(name).query()
    assert.equal(owner?.pid, process.pid, 'the record is whole')
    assert.equal(owner.purpose, text.slice(0, 256))
    assert.equal(owner.app, text.slice(0, 128))
    assert.equal(owner.progress?.unit, text.slice(0, 32))
    lock.release()
  }
})

const hostile: Record<string, string> = {
  'no object': '[]',
  'a number': '42',
  null: 'null',
  'not JSON': '{"pid":',
  'no pid': '{"app":"x"}',
  'deep nesting': `{"pid":1,"x":${'['.repeat(1900)}${']'.repeat(1900)}}`,
  'deep nesting, unclosed': '['.repeat(4000),
  'wrong types': '{"pid":"1","host":7,"bootId":{},"app":[],"since":"now","purpose":null,"progress":"half"}',
  'wrong types beside a pid':
    '{"pid":1,"host":7,"bootId":{},"app":[],"since":"now","purpose":null,"progress":{"done":"half"}}',
  'huge numbers':
    '{"pid":1e308,"processStart":1e308,"since":1e308,"threadId":1e400,"progress":{"done":1e308,"total":-1}}',
  'negative and odd numbers': '{"pid":-1,"processStart":-5,"since":-1e99,"threadId":0.5}',
  'a prototype': '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"pid":1}',
  'control characters': '{"pid":1,"purpose":"\\u0000\\u001b[31m\\ud800"}',
}

const folder = new LockFolder()
let other: Party
before(async () => {
  other = await folder.process()
})
after(() => folder[Symbol.asyncDispose]())

/** What a process that finds these bytes in the lock file does with them. */
async function meets(bytes: Uint8Array | string, sizeBytes?: number): Promise<OwnerInfo | undefined> {
  const name = folder.uniqueName()
  const path = folder.fileOf(name)
  const put = () => {
    const file = openSync(path, 'r+')
    // Windows lets nobody shorten a file that is mapped: there the rest of it is wiped.
    if (!onWindows) ftruncateSync(file, 0)
    writeSync(file, Buffer.concat([Buffer.from(bytes as string), Buffer.alloc(onWindows ? 4096 : 0)]))
    if (sizeBytes !== undefined) ftruncateSync(file, sizeBytes)
    closeSync(file)
  }
  // In an idle file: the mutex is free, and can be taken.
  writeFileSync(path, '')
  put()
  const mutex = folder.mutex(name)
  assert.deepEqual(mutex.query(), { held: false })
  const lock = mutex.tryAcquire({ purpose: 'after garbage' })
  assert.ok(lock)
  assert.equal(lock.previousOwner?.purpose === 'after garbage', false)
  assert.equal(mutex.query().owner?.purpose, 'after garbage')
  // While it is held: nobody else gets it, and everybody who asks gets an answer.
  put()
  const seen = await other.query(name)
  assert.equal(seen.held, true)
  if (onLinux) assert.equal(seen.owner?.pid, process.pid, 'the kernel knows the pid')
  assert.equal(mutex.query().held, true)
  assert.equal(await other.tryAcquire(name), null)
  await assert.rejects(other.acquire(name, { timeoutMs: 20 }).lock, { code: 'ERR_MUTEX_TIMEOUT' })
  const waiting = other.acquire(name)
  await waiting.waiting
  put()
  lock.release()
  const next = await waiting.lock
  assert.equal((await other.query(name)).owner?.pid, other.pid)
  put()
  await next.report({ done: 1 })
  await next.release()
  assert.equal(({} as { polluted?: number }).polluted, undefined)
  return lock.previousOwner
}

for (const [what, json] of Object.entries(hostile)) {
  test(`a record of ${what} breaks neither locking nor query`, async () => {
    const told = await meets(lockFileBytes('held', json))
    // Whatever of it is believed is of the right type.
    for (const [key, value] of Object.entries(told ?? {})) {
      if (['pid', 'processStart', 'since', 'threadId', 'pidSpace'].includes(key)) assert.ok(Number.isFinite(value))
      else if (key !== 'progress') assert.equal(typeof value, 'string')
    }
  })
}

test('an empty, foreign or random lock file breaks neither locking nor query, and tells no owner', async () => {
  const whole = lockFileBytes('held', '{"pid":1,"purpose":"whole"}')
  const badSum = Buffer.from(whole)
  badSum.write('other', badSum.indexOf('whole'))
  const tooLong = Buffer.from(whole)
  tooLong.write('ffff', 4)
  const files = [
    '',
    '\0',
    '4711\n',
    '-H1 ',
    whole.subarray(0, 30),
    badSum,
    tooLong,
    '-H1 zzzz',
    randomBytes(4096),
    randomBytes(100_000),
    Buffer.alloc(5000, 0xff),
  ]
  for (const bytes of files) assert.equal(await meets(bytes), undefined)
})

test('a lock file of 1 GB is no slower than a small one', async () => {
  const startedAt = performance.now()
  await meets('', 1e9)
  await meets(lockFileBytes('held', '{"pid":1}'), 1e9)
  assert.ok(performance.now() - startedAt < 5000)
})

function cutOff(path: string, length: number): void {
  if (onWindows) {
    const file = openSync(path, 'r+')
    writeSync(file, Buffer.alloc(4096 - length), 0, 4096 - length, length)
    closeSync(file)
  } else {
    truncateSync(path, length)
  }
}

test('a record that is cut off while the mutex is held costs only its text', async () => {
  await using folder = new LockFolder()
  const other = await folder.process()
  const mutex = folder.mutex(name)
  for (const length of [0, 1, 2, 10, 27, 40]) {
    const lock = mutex.tryAcquire({ purpose: 'to be cut' })
    assert.ok(lock)
    cutOff(mutex.path, length)
    assert.equal((await other.query(name)).held, true)
    assert.equal(await other.tryAcquire(name), null)
    lock.report({ done: 1 })
    assert.equal((await other.query(name)).owner?.progress?.done, 1, 'the next report mends it')
    lock.release()
    const next = await other.acquire(name).lock
    assert.equal(next.abandoned, false)
    await next.release()
  }
})

const ifKernelTellsOwner = kernelTellsPids
  ? {}
  : { skip: 'only Linux and Windows itself (not Wine) tell the pid of an owner' }

test('a forged record of a living owner is not taken for the real one', ifKernelTellsOwner, async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name, { purpose: 'real' }).lock
  const real = (await owner.query(name)).owner
  writeFileSync(
    folder.fileOf(name),
    lockFileBytes('held', JSON.stringify({ ...real, pid: process.pid, purpose: 'forged' })),
  )
  assert.deepEqual(folder.mutex(name).query(), { held: true, owner: { pid: owner.pid, confirmed: true } })
})

test('a dead owner is not shown as the present one', async () => {
  await using folder = new LockFolder()
  const owner = await folder.process()
  await owner.acquire(name).lock
  const mutex = folder.mutex(name)
  assert.equal(mutex.query().owner?.pid, owner.pid)
  await owner.kill()
  await until('the kernel has freed it', () => !mutex.query().held)
  assert.deepEqual(mutex.query(), { held: false })
  assert.equal((await folder.nextOwner(name)).previousOwner?.pid, owner.pid, 'looking did not use up the abandonment')
})
