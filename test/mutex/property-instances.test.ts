// Whatever is done with a mutex in whatever order, it does what the reference model does: who owns it, who waits, who is next, and how
// each attempt ends. Here: several instances in one thread.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { MutexLock, NamedMutex } from 'os-mutex'
import {
  always,
  command,
  firstOf,
  outcomeOf,
  pick,
  type Seen,
  sequenceLength,
  someHaveHadIt,
  someWait,
  type World,
} from '../support/interleavings.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { runs } from '../support/properties.ts'
import { AttemptsModel, type Id, type Outcome } from '../support/reference-model.ts'

interface Attempt {
  outcome: Outcome
  readonly controller: AbortController
  readonly expire?: () => void
  settled?: Promise<unknown>
  lock?: MutexLock
}

const instanceCount = 3

class Instances implements World {
  readonly #mutexes: NamedMutex[]
  readonly #observer: NamedMutex
  readonly #attempts: Attempt[] = []

  constructor(folder: LockFolder) {
    const name = folder.uniqueName()
    this.#mutexes = Array.from({ length: instanceCount }, () => folder.mutex(name))
    this.#observer = folder.mutex(name)
  }

  acquire(instance: number, id: Id, isLimited: boolean): void {
    const controller = new AbortController()
    const timer = isLimited ? handDrivenTimer() : undefined
    const acquire = pick(this.#mutexes, instance).acquire({
      purpose: `attempt ${id}`,
      signal: controller.signal,
      ...(isLimited ? { timeoutMs: 60_000 } : {}),
    })
    timer?.restore()
    const attempt: Attempt = { outcome: 'waits', controller, ...(timer === undefined ? {} : { expire: timer.expire }) }
    attempt.settled = acquire.then(
      (lock) => Object.assign(attempt, { outcome: 'has it', lock }),
      (error) => Object.assign(attempt, { outcome: outcomeOf(error) }),
    )
    this.#attempts.push(attempt)
  }

  tryAcquire(instance: number, id: Id): void {
    const controller = new AbortController()
    try {
      const lock = pick(this.#mutexes, instance).tryAcquire({ purpose: `attempt ${id}` })
      this.#attempts.push(lock === null ? { outcome: 'refused', controller } : { outcome: 'has it', controller, lock })
    } catch (error) {
      this.#attempts.push({ outcome: outcomeOf(error), controller })
    }
  }

  abort(id: Id): void {
    pick(this.#attempts, id).controller.abort(new Error('aborted'))
  }

  expire(id: Id): void {
    pick(this.#attempts, id).expire?.()
  }

  release(id: Id): void {
    const attempt = pick(this.#attempts, id)
    attempt.lock?.release()
    attempt.outcome = 'had it'
  }

  close(instance: number): void {
    pick(this.#mutexes, instance).close()
  }

  /** The first of these that hears that it owns the mutex. */
  async next(waiting: readonly Id[]): Promise<Id> {
    const next = await firstOf(waiting, this.#attempts)
    await new Promise((resolve) => setImmediate(resolve)) // for whatever else may be told
    return next
  }

  async check(model: AttemptsModel): Promise<void> {
    // The end of an attempt is told in some microtasks. A hand-over takes a turn of the event loop, and `next` alone makes one.
    for (let microtask = 0; microtask < 5; microtask++) await null
    assert.deepEqual(
      this.#attempts.map(({ outcome }) => outcome),
      model.outcomes,
    )
    if (model.mutex.isHandedOver) return
    const { owner } = model.mutex
    const seen = this.#observer.query()
    assert.equal(seen.held, owner !== undefined)
    assert.equal(seen.owner?.purpose, owner === undefined ? undefined : `attempt ${owner}`)
  }

  /** Ends it all; nothing is left behind. */
  end(): void {
    for (const mutex of this.#mutexes) mutex.close()
    for (const { lock } of this.#attempts) lock?.release()
    using observer = this.#observer
    using lock = observer.tryAcquire()
    assert.equal(lock?.abandoned, false)
  }
}

/** Catches the timer that is set until `restore`. It runs out when it is told to: a race with a clock has no one right outcome. */
function handDrivenTimer(): { restore: () => void; expire: () => void } {
  const { setTimeout } = globalThis
  let callback = () => {}
  globalThis.setTimeout = ((caught: () => void) => {
    callback = caught
    return setTimeout(() => {}, 0)
  }) as typeof setTimeout
  const restore = () => {
    globalThis.setTimeout = setTimeout
  }
  return { restore, expire: () => callback() }
}

/** Those whose limit may run out with one right outcome: a grant that is on its way may win against it, or lose. */
function expirable({ mutex, limited }: Seen): readonly Id[] {
  return mutex.waiting.slice(mutex.isHandedOver ? 1 : 0).filter((id) => limited.has(id))
}

const here = 'here'
const acquireHere = command<Instances>('acquire', always, (model, world, index) => {
  world.acquire(index, model.acquire(index % instanceCount, here), false)
})
const hear = command<Instances>(
  'hear of the grant',
  ({ mutex }) => mutex.isHandedOver,
  async (model, world) => model.grant(await world.next(model.mutex.waiting)),
)
const releaseHere = command<Instances>('release', someHaveHadIt, (model, world, index) => {
  const id = index % 3 > 0 && model.mutex.owner !== undefined ? model.mutex.owner : pick(model.granted, index)
  model.release(id)
  world.release(id)
})
const commandsHere = [
  acquireHere,
  acquireHere,
  command<Instances>('acquire within a limit', always, (model, world, index) => {
    const id = model.acquire(index % instanceCount, here)
    model.limited.add(id)
    world.acquire(index, id, true)
  }),
  command<Instances>('tryAcquire', always, (model, world, index) => {
    world.tryAcquire(index, model.tryAcquire(index % instanceCount))
  }),
  command<Instances>('abort', someWait, (model, world, index) => {
    const id = pick(model.mutex.waiting, index)
    model.giveUp(id, 'aborted')
    world.abort(id)
  }),
  command<Instances>('abort, too late', someHaveHadIt, (model, world, index) =>
    world.abort(pick(model.granted, index)),
  ),
  command<Instances>(
    'run out of time',
    (model) => expirable(model).length > 0,
    (model, world, index) => {
      const id = pick(expirable(model), index)
      model.giveUp(id, 'timed out')
      world.expire(id)
    },
  ),
  releaseHere,
  releaseHere,
  hear,
  hear,
  command<Instances>(
    'close',
    (_, index) => index % 3 === 0,
    (model, world, index) => {
      model.close(index % instanceCount)
      world.close(index)
    },
  ),
]

test('instances in one thread, with grants, aborts, limits and closes at any moment, do what the model does', async () => {
  await using folder = new LockFolder()
  await fc.assert(
    fc.asyncProperty(fc.commands(commandsHere, sequenceLength), async (commands) => {
      const world = new Instances(folder)
      await fc.asyncModelRun(() => ({ model: new AttemptsModel(), real: world }), commands)
      world.end()
    }),
    runs(250),
  )
})
