// Whatever is done with a mutex in whatever order, it does what the reference model does: who owns it, who waits, who is next, and how
// each attempt ends.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { MutexLock, NamedMutex } from 'os-mutex'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party, PartyAcquire, PartyAcquireOptions, PartyLock } from '../support/party.ts'
import { runs } from '../support/properties.ts'
import { AttemptsModel, type Id, type Outcome } from '../support/reference-model.ts'

/** One of them, by any number. */
function pick<T>(among: readonly T[], index: number): T {
  return among[index % among.length] ?? assert.fail('there is none')
}

function outcomeOf(error: unknown): Outcome {
  const { code, message } = error as { code?: string; message: string }
  if (message.startsWith('aborted')) return 'aborted'
  if (code === 'ERR_MUTEX_TIMEOUT') return 'timed out'
  if (code === 'ERR_MUTEX_CLOSED') return 'closed'
  throw error
}

/** So long may a grant take. Once one has not come, the shorter sequences that fail as well are to be found soon. */
let patienceMs = 10_000

/** The first of the attempts with these ids that ends. */
async function firstOf(ids: readonly Id[], attempts: readonly { readonly settled?: Promise<unknown> }[]): Promise<Id> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      patienceMs = 200
      reject(new Error(`The mutex is free, and none of ${ids} is granted it`))
    }, patienceMs)
  })
  try {
    return await Promise.race([late, ...ids.map((id) => pick(attempts, id).settled?.then(() => id) ?? late)])
  } finally {
    clearTimeout(timer)
  }
}

type Seen = Pick<AttemptsModel, 'mutex' | 'granted' | 'limited'>

interface World {
  /** Compares all that there is to see with the model. */
  check(model: AttemptsModel): Promise<void>
}

/** Makes a command that looks at everything when it has been run. `index` chooses what it is about. */
function command<W extends World>(
  name: string,
  isPossible: (model: Seen, index: number) => boolean,
  run: (model: AttemptsModel, world: W, index: number) => Promise<void> | void,
): fc.Arbitrary<fc.AsyncCommand<AttemptsModel, W>> {
  return fc.nat(999).map((index) => ({
    check: (model) => isPossible(model, index),
    run: async (model, world) => {
      await run(model, world, index)
      await world.check(model)
    },
    toString: () => `${name} ${index}`,
  }))
}

const always = () => true
const someWait = ({ mutex }: Seen) => mutex.waiting.length > 0
const someHaveHadIt = ({ granted }: Seen) => granted.length > 0
// Without its limit, a sequence is seldom long enough for a line to form.
const length = { maxCommands: 60, size: 'max' as const }

// --- Several instances in one thread ---------------------------------------------------------------------------------

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
    fc.asyncProperty(fc.commands(commandsHere, length), async (commands) => {
      const world = new Instances(folder)
      await fc.asyncModelRun(() => ({ model: new AttemptsModel(), real: world }), commands)
      world.end()
    }),
    runs(250),
  )
})

// --- Several threads and processes -----------------------------------------------------------------------------------

interface PartyAttempt {
  outcome: Outcome
  acquire?: PartyAcquire
  settled?: Promise<unknown>
  lock?: PartyLock
}

class Parties implements World {
  readonly parties: readonly Party[]
  readonly #name: string
  readonly #observer: NamedMutex
  readonly #attempts: PartyAttempt[] = []

  constructor(folder: LockFolder, parties: readonly Party[]) {
    this.parties = parties
    this.#name = folder.uniqueName()
    this.#observer = folder.mutex(this.#name)
  }

  processOf(party: number): string {
    return String(pick(this.parties, party).pid)
  }

  /** Resolves when it has ended or stands in line. */
  async acquire(party: number, id: Id, options: PartyAcquireOptions = {}): Promise<void> {
    const acquire = pick(this.parties, party).acquire(this.#name, { purpose: `attempt ${id}`, ...options })
    const attempt: PartyAttempt = { outcome: 'waits', acquire }
    attempt.settled = acquire.lock.then(
      (lock) => Object.assign(attempt, { outcome: 'has it', lock }),
      (error) => Object.assign(attempt, { outcome: outcomeOf(error) }),
    )
    this.#attempts.push(attempt)
    await Promise.race([acquire.waiting, attempt.settled])
  }

  async tryAcquire(party: number, id: Id): Promise<void> {
    const attempt: PartyAttempt = { outcome: 'refused' }
    this.#attempts.push(attempt)
    try {
      const lock = await pick(this.parties, party).tryAcquire(this.#name, `attempt ${id}`)
      if (lock !== null) Object.assign(attempt, { outcome: 'has it', lock })
    } catch (error) {
      attempt.outcome = outcomeOf(error)
    }
  }

  async abort(id: Id): Promise<void> {
    const { acquire, settled } = pick(this.#attempts, id)
    await acquire?.abort()
    await settled
  }

  async ended(id: Id): Promise<void> {
    await pick(this.#attempts, id).settled
  }

  async release(id: Id): Promise<void> {
    const attempt = pick(this.#attempts, id)
    await attempt.lock?.release()
    attempt.outcome = 'had it'
  }

  next(waiting: readonly Id[]): Promise<Id> {
    return firstOf(waiting, this.#attempts)
  }

  async close(party: number, waiting: readonly Id[]): Promise<void> {
    await pick(this.parties, party).run(({ mutex }, name) => mutex(name).close(), this.#name)
    for (const id of waiting) await this.ended(id)
  }

  async check(model: AttemptsModel): Promise<void> {
    assert.deepEqual(
      this.#attempts.map(({ outcome }) => outcome),
      model.outcomes,
    )
    const { owner } = model.mutex
    const seen = this.#observer.query()
    assert.equal(seen.held, owner !== undefined)
    assert.equal(seen.owner?.purpose, owner === undefined ? undefined : `attempt ${owner}`)
    if (owner !== undefined) assert.equal(String(seen.owner?.pid), this.processOf(model.through[owner] ?? 0))
  }

  async end(): Promise<void> {
    for (const party of this.parties.keys()) await this.close(party, [])
    for (const { lock } of this.#attempts) await lock?.release()
    using observer = this.#observer
    using lock = observer.tryAcquire()
    assert.equal(lock?.abandoned, false)
  }
}

const acquireThere = command<Parties>('acquire', always, (model, world, index) => {
  const party = index % world.parties.length
  return world.acquire(party, model.acquire(party, world.processOf(party)))
})
const releaseThere = command<Parties>('release', someHaveHadIt, async (model, world, index) => {
  const id = index % 3 > 0 && model.mutex.owner !== undefined ? model.mutex.owner : pick(model.granted, index)
  model.release(id)
  await world.release(id)
  if (model.mutex.isHandedOver) model.grant(await world.next(model.mutex.waiting))
})
const commandsThere = [
  acquireThere,
  acquireThere,
  command<Parties>('tryAcquire', always, (model, world, index) => {
    const party = index % world.parties.length
    return world.tryAcquire(party, model.tryAcquire(party))
  }),
  command<Parties>(
    'acquire and run out of time',
    ({ mutex }) => mutex.owner !== undefined,
    async (model, world, index) => {
      const party = index % world.parties.length
      const id = model.acquire(party, world.processOf(party))
      await world.acquire(party, id, { timeoutMs: 1 })
      await world.ended(id)
      if (model.outcomes[id] === 'waits') model.giveUp(id, 'timed out')
    },
  ),
  command<Parties>('abort', someWait, (model, world, index) => {
    const id = pick(model.mutex.waiting, index)
    model.giveUp(id, 'aborted')
    return world.abort(id)
  }),
  releaseThere,
  releaseThere,
  command<Parties>(
    'close',
    (_, index) => index % 4 === 0,
    (model, world, index) => {
      const party = index % world.parties.length
      return world.close(party, model.close(party))
    },
  ),
]

test('threads and processes, with grants, aborts, limits and closes in any order, do what the model does', async () => {
  await using folder = new LockFolder()
  const parties = await Promise.all([folder.thread(), folder.process(), folder.thread(), folder.process()])
  await fc.assert(
    fc.asyncProperty(fc.commands(commandsThere, length), async (commands) => {
      const world = new Parties(folder, parties)
      await fc.asyncModelRun(() => ({ model: new AttemptsModel(), real: world }), commands)
      await world.end()
    }),
    runs(40),
  )
})
