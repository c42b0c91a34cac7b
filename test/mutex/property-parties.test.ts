// Whatever is done with a mutex in whatever order, it does what the reference model does: who owns it, who waits, who is next, and how
// each attempt ends. Here: several threads and processes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { NamedMutex } from 'os-mutex'
import {
  always,
  command,
  firstOf,
  outcomeOf,
  pick,
  sequenceLength,
  someHaveHadIt,
  someWait,
  type World,
} from '../support/interleavings.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party, PartyAcquire, PartyAcquireOptions, PartyLock } from '../support/party.ts'
import { runs } from '../support/properties.ts'
import { AttemptsModel, type Id, type Outcome } from '../support/reference-model.ts'

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
    fc.asyncProperty(fc.commands(commandsThere, sequenceLength), async (commands) => {
      const world = new Parties(folder, parties)
      await fc.asyncModelRun(() => ({ model: new AttemptsModel(), real: world }), commands)
      await world.end()
    }),
    runs(40),
  )
})
