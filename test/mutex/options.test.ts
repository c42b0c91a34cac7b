// A misspelt option must not be ignored: a wait that was to be short would be for ever.
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { acquireAll, type MutexLock, NamedMutex } from 'os-mutex'
import { LockFolder } from '../support/lock-folder.ts'
import { runs } from '../support/properties.ts'

// An option that is ignored leaves a wait without an end.
const bounded = { timeout: 30_000 }

const folder = new LockFolder()
after(() => folder[Symbol.asyncDispose]())

const held = folder.mutex('held').tryAcquire() as MutexLock
const reporting = folder.mutex('reporting').tryAcquire() as MutexLock
// Nobody releases it before the last test: each call of the table finds it taken, and settles at once.
const taken = folder.mutex('held')

interface Call {
  /** As the message begins. */
  readonly what: string
  /** Valid, all of them. */
  readonly known: Readonly<Record<string, unknown>>
  /** Throws or rejects as the call does, but for what it says of the taken mutex. */
  readonly run: (options: object) => unknown
}

const wait = { timeoutMs: 0, purpose: 'test' }
const waitOptions = { ...wait, signal: new AbortController().signal, onWait: () => {}, detectDeadlock: true }
const never = () => assert.fail('never')

async function timesOut(call: () => Promise<unknown>): Promise<void> {
  try {
    await call()
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_MUTEX_TIMEOUT') return
    throw error
  }
  assert.fail('it is taken')
}

function acquireSync(options: object): void {
  try {
    taken.acquireSync(options)
  } catch (error) {
    // This very thread holds it.
    if ((error as { code?: string }).code !== 'ERR_MUTEX_DEADLOCK') throw error
  }
}

const calls: readonly Call[] = [
  {
    what: 'NamedMutex',
    known: { scope: 'global', directory: folder.path, app: 'test' },
    run: (options) => new NamedMutex('x', options),
  },
  { what: 'acquire()', known: waitOptions, run: (options) => timesOut(() => taken.acquire({ ...options, ...wait })) },
  { what: 'tryAcquire()', known: { purpose: 'test' }, run: (options) => taken.tryAcquire(options) },
  { what: 'acquireSync()', known: { ...wait, onWait: () => {} }, run: acquireSync },
  {
    what: 'withLock()',
    known: waitOptions,
    run: (options) => timesOut(() => taken.withLock({ ...options, ...wait }, never)),
  },
  {
    what: 'withLock()',
    known: waitOptions,
    run: (options) => timesOut(() => taken.withLock(never, { ...options, ...wait })),
  },
  {
    what: 'acquireAll()',
    known: waitOptions,
    run: (options) => timesOut(() => acquireAll([taken], { ...options, ...wait })),
  },
  {
    what: 'The progress of report()',
    known: { done: 1, total: 2, unit: 'bytes' },
    run: (progress) => reporting.report({ done: 1, ...progress }),
  },
]

/** The message with which the call refuses the options, if it does. */
async function refusal(call: Call, options: object): Promise<string | undefined> {
  try {
    await call.run(options)
    return undefined
  } catch (error) {
    const { name, code, message } = error as Error & { code?: string }
    assert.deepEqual([name, code], ['TypeError', 'ERR_MUTEX_INVALID_ARGUMENT'], message)
    return message
  }
}

test('a misspelt option is refused by every call, with the name that was probably meant', bounded, async () => {
  for (const [what, wrong, meant] of [
    ['NamedMutex', 'dir', 'directory'],
    ['NamedMutex', 'Directory', 'directory'],
    ['NamedMutex', 'scop', 'scope'],
    ['acquire()', 'timeout', 'timeoutMs'],
    ['acquire()', 'timeoutMS', 'timeoutMs'],
    ['acquire()', 'timeout_ms', 'timeoutMs'],
    ['acquire()', 'tiemoutMs', 'timeoutMs'],
    ['acquire()', 'singal', 'signal'],
    ['acquire()', 'wait', 'onWait'],
    ['acquire()', 'deadlock', 'detectDeadlock'],
    ['tryAcquire()', 'purpos', 'purpose'],
    ['acquireSync()', 'timeout', 'timeoutMs'],
    ['withLock()', 'timeout', 'timeoutMs'],
    ['acquireAll()', 'timeout', 'timeoutMs'],
    ['The progress of report()', 'totl', 'total'],
    ['The progress of report()', 'units', 'unit'],
  ] as const) {
    const asked = calls.filter((call) => call.what === what)
    assert.ok(asked.length > 0, what)
    for (const call of asked) {
      const message = await refusal(call, { [wrong]: 100 })
      assert.ok(
        message?.startsWith(`${what} has no option "${wrong}". Did you mean "${meant}"? Known options: `),
        message,
      )
    }
  }
})

test(
  'an option that resembles none, or is of another call, is refused with those that there are',
  bounded,
  async () => {
    assert.throws(() => taken.tryAcquire({ timeoutMs: 100 } as object), {
      message: 'tryAcquire() has no option "timeoutMs". Known options: purpose',
    })
    assert.throws(() => taken.acquireSync({ signal: new AbortController().signal } as object), {
      message: 'acquireSync() has no option "signal". Known options: timeoutMs, purpose, onWait',
    })
    await assert.rejects(taken.acquire(['timeoutMs', 100] as object), { message: /must be an object, not an array/ })
  },
)

test('a signal in the place of the options is refused, with its place', bounded, async () => {
  const { signal } = new AbortController()
  const refused = { code: 'ERR_MUTEX_INVALID_ARGUMENT', message: /AbortSignal as its option "signal"/ }
  await assert.rejects(taken.acquire(signal as object), refused)
  await assert.rejects(taken.withLock(signal as object, never), refused)
  await assert.rejects(acquireAll([taken], signal as object), refused)
  assert.throws(() => taken.tryAcquire(signal as object), refused)
})

test('withLock takes its options before the callback or after it, and refuses two of a kind', bounded, async () => {
  const mutex = folder.mutex('work')
  const purposes: (string | undefined)[] = []
  const work = () => purposes.push(mutex.query().owner?.purpose)
  await mutex.withLock(work, { purpose: 'after' })
  await mutex.withLock({ purpose: 'before' }, work)
  await mutex.withLock(work)
  await mutex.withLock(work, undefined as never)
  assert.deepEqual(purposes, ['after', 'before', undefined, undefined])
  for (const args of [[work, work], [{}, {}], [{}], [], [work, null], [null, work], [work, 100], ['x', work]]) {
    const call = (mutex.withLock as (...args: unknown[]) => Promise<unknown>).apply(mutex, args)
    await assert.rejects(call, { name: 'TypeError', code: 'ERR_MUTEX_INVALID_ARGUMENT' })
  }
  assert.equal(purposes.length, 4)
  const after = taken.withLock(never, { timeoutMs: 0 })
  await assert.rejects(after, { code: 'ERR_MUTEX_TIMEOUT' })
})

test('acquireAll refuses anything but an array in the first place', bounded, async () => {
  for (const mutexes of ['x', taken, undefined, { timeoutMs: 1 }, new Set(['x'])])
    await assert.rejects(acquireAll(mutexes as never, ['x'] as never), {
      name: 'TypeError',
      code: 'ERR_MUTEX_INVALID_ARGUMENT',
      message: /array/,
    })
})

test("what is inherited or not enumerable is nobody's option, as after a library has extended Object.prototype", async () => {
  const prototype = Object.prototype as { timeout?: number }
  prototype.timeout = 1
  try {
    for (const call of calls) assert.equal(await refusal(call, {}), undefined, call.what)
  } finally {
    delete prototype.timeout
  }
  const hidden = Object.defineProperty({}, 'timeout', { value: 1 })
  assert.equal(taken.tryAcquire(hidden), null)
  assert.equal(taken.tryAcquire(Object.create({ timeout: 1 })), null)
  assert.equal(taken.tryAcquire({ [Symbol('timeout')]: 1 } as object), null)
})

const someOf = (known: Call['known']) =>
  fc.subarray(Object.keys(known)).chain((names) =>
    fc.tuple(...names.map((name) => fc.constantFrom(known[name], undefined))).map((values) =>
      // Undefined where it is asked for: an option that is left open.
      Object.fromEntries(names.map((name, index) => [name, values[index]])),
    ),
  )

for (const [place, call] of calls.entries()) {
  test(`${call.what} (${place}) takes any of its options, and refuses any other by its name`, async () => {
    // A progress must have `done`.
    const options = someOf(call.known).filter((some) => !('done' in some) || some.done !== undefined)
    const unknown = fc
      .oneof(
        fc.string({ maxLength: 12 }),
        fc.constantFrom('timeout', 'dir', '__proto__', 'constructor', 'toString', 'hasOwnProperty', 'aborted', 'then'),
        fc.constantFrom(...Object.keys(call.known)).chain((name) => fc.constantFrom(`${name}s`, name.toUpperCase())),
      )
      .filter((name) => !Object.hasOwn(call.known, name))
    const value = fc.anything().filter((any) => any !== undefined)
    await fc.assert(
      fc.asyncProperty(options, unknown, value, async (some, name, any) => {
        assert.equal(await refusal(call, some), undefined)
        const own = (given: unknown) =>
          Object.defineProperty({ ...some }, name, { value: given, enumerable: true, configurable: true })
        const message = await refusal(call, own(any))
        assert.ok(message?.startsWith(`${call.what} has no option ${JSON.stringify(name)}.`), message)
        assert.equal(await refusal(call, own(undefined)), undefined)
      }),
      runs(200),
    )
  })
}

test('nothing of all that was taken or is waited for', () => {
  assert.deepEqual([held.released, reporting.released], [false, false])
  held.release()
  reporting.release()
  const lock = taken.tryAcquire()
  assert.notEqual(lock, null)
  lock?.release()
})
