// Whatever bytes lie in a lock file: they never break locking, and what they tell of the previous owner is right or nothing. The
// kinds of hostile records that are known are in owner-record.test.ts.
import assert from 'node:assert/strict'
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { lockFileBytes } from '../support/lock-file-bytes.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import { bytesUpTo, damaged, damages, runs } from '../support/properties.ts'
import { checkOwner, toldBy } from '../support/reference-record.ts'

const onWindows = process.platform === 'win32'

// --- Bytes of all kinds ---------------------------------------------------------------------------------------------

const anyText = fc.oneof(fc.string({ unit: 'binary', maxLength: 20 }), fc.string({ maxLength: 300, size: 'max' }))
const count = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.double({ min: 0, noNaN: true }))
const progress = fc.record(
  { done: count, total: count, unit: anyText, sequence: fc.nat(), monotonicMs: count },
  { requiredKeys: ['done'] },
)
const ownerRecord = fc.record(
  {
    pid: fc.nat(),
    processStart: count,
    host: anyText,
    bootId: anyText,
    pidSpace: count,
    app: anyText,
    threadId: fc.nat(),
    purpose: anyText,
    since: count,
    progress,
  },
  { requiredKeys: ['pid'] },
)
/** An owner record with something else in some of its fields. */
const oddRecord = fc
  .tuple(ownerRecord, fc.dictionary(fc.constantFrom('pid', 'host', 'since', 'progress', 'else'), fc.jsonValue()))
  .map(([owner, odd]) => ({ ...owner, ...odd }))
const json = fc.oneof(
  { arbitrary: ownerRecord.map((owner) => JSON.stringify(owner)), weight: 3 },
  { arbitrary: oddRecord.map((odd) => JSON.stringify(odd)), weight: 2 },
  fc.json(),
  fc.string({ unit: 'binary' }),
)
const whole = fc
  .tuple(fc.constantFrom('held' as const, 'free' as const), json)
  .map(([state, text]) => lockFileBytes(state, text))
/** One owner's record with the checksum of another's, as a write that was cut off may leave it. */
const torn = fc.tuple(json, json).map(([mine, theirs]) => {
  const bytes = lockFileBytes('held', mine)
  lockFileBytes('held', theirs).copy(bytes, 9, 9, 25)
  return bytes
})
/** A whole record in which one field of the header says something else, perhaps without the line's end. */
const misled = fc
  .tuple(
    json,
    fc.constantFrom(0, 1, 2, 4, 8, 25),
    fc.oneof(fc.constantFrom('ffff', '0fff'), fc.stringMatching(/^[HFwgG0-9a-f -]{1,4}$/)),
    fc.boolean(),
  )
  .map(([text, at, lie, isEnded]) => {
    const bytes = lockFileBytes('held', text)
    bytes.write(lie, at)
    return isEnded ? bytes : bytes.subarray(0, -1)
  })
const lies = fc.oneof(
  fc.constantFrom('H', 'F', 'w', '1 ', '0000', 'ffff', '0fe6', 'zzzz', '\0', '\n').map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 16 }),
)
const anyFile = fc.oneof(
  { arbitrary: whole, weight: 2 },
  { arbitrary: fc.tuple(whole, damages(lies)).map(([bytes, all]) => damaged(bytes, all)), weight: 3 },
  { arbitrary: fc.oneof(torn, misled), weight: 2 },
  { arbitrary: bytesUpTo(5000), weight: 1 },
  { arbitrary: bytesUpTo(200).map((bytes) => Buffer.concat([Buffer.from('-H1 '), bytes])), weight: 1 },
)

// --- The properties -------------------------------------------------------------------------------------------------

let folder: LockFolder
let other: Party
before(async () => {
  folder = new LockFolder()
  other = await folder.process()
})
after(() => folder[Symbol.asyncDispose]())

/** Puts the bytes into a lock file that is in use. */
function overwrite(path: string, bytes: Buffer): void {
  const file = openSync(path, 'r+')
  // Windows lets nobody shorten a file that is mapped: there the rest of it is wiped.
  if (!onWindows) ftruncateSync(file, 0)
  writeSync(file, onWindows ? Buffer.concat([bytes, Buffer.alloc(4096)], 4096) : bytes, 0, null, 0)
  closeSync(file)
}

test('whoever takes a free mutex has it, and is told of the last owner just what a whole record says', () => {
  let tellOwners = 0
  fc.assert(
    fc.property(anyFile, (bytes) => {
      using mutex = folder.mutex(folder.uniqueName())
      writeFileSync(mutex.path, bytes)
      assert.deepEqual(mutex.query(), { held: false })
      const told = toldBy(bytes)
      using lock = mutex.tryAcquire({ purpose: 'after garbage' })
      assert.ok(lock)
      assert.deepEqual({ abandoned: lock.abandoned, previousOwner: lock.previousOwner }, told)
      if (told.previousOwner !== undefined) tellOwners++
      assert.equal(mutex.query().owner?.purpose, 'after garbage')
      lock.release()
      using next = mutex.tryAcquire()
      assert.equal(next?.abandoned, false, 'told once')
    }),
    runs(500),
  )
  assert.ok(tellOwners > 0, 'some of the files were whole records')
})

test('while a mutex is held, whatever is written over its record leaves the lock with its owner and the line in order', async () => {
  await fc.assert(
    fc.asyncProperty(anyFile, fc.boolean(), async (bytes, reports) => {
      using mutex = folder.mutex(folder.uniqueName())
      using lock = mutex.tryAcquire()
      assert.ok(lock)
      overwrite(mutex.path, bytes)
      for (const seen of [mutex.query(), await other.query(mutex.name)]) {
        assert.equal(seen.held, true)
        if (seen.owner !== undefined) checkOwner(seen.owner)
      }
      assert.equal(await other.tryAcquire(mutex.name), null)
      const next = other.acquire(mutex.name)
      await next.waiting
      if (reports) {
        lock.report({ done: 1 })
        assert.equal((await other.query(mutex.name)).owner?.progress?.done, 1, 'the next report mends it')
      }
      overwrite(mutex.path, bytes)
      lock.release()
      const granted = await next.lock
      assert.deepEqual([granted.abandoned, granted.previousOwner], [false, undefined])
      assert.equal((await other.query(mutex.name)).owner?.pid, other.pid)
      await granted.release()
      await other.run(({ mutex }, name) => mutex(name).close(), mutex.name)
    }),
    runs(40),
  )
})
