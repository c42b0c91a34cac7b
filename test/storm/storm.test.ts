// The crash storm in its short form (`npm run test:storm` is the long one), and its witness, which has to find what it is there for.
import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { test } from 'node:test'
import { crashCommand, runCrashStorm, shortStorm } from './crash-storm.ts'
import type { Acquisition, Entry } from './journal.ts'
import { examine, type Verdict } from './witness.ts'

const isNode = process.versions.bun === undefined && !('Deno' in globalThis)
const whereItHolds =
  process.platform === 'win32'
    ? {
        skip: 'its witness argues from what POSIX leaves of a dead owner; on Windows a grant that nobody heard of counts as well',
      }
    : isNode
      ? {}
      : { skip: 'it ends worker threads wherever they are, and counts what Node has open' }

test('in a storm of kills, stops, terminations and aborts every mutex keeps its promises', whereItHolds, async (t) => {
  const options = { ...shortStorm, seed: randomInt(1_000_000) }
  t.diagnostic(crashCommand(options))
  const report = await runCrashStorm(options)
  assert.deepEqual(report.violations, [])
  assert.ok(report.kills >= shortStorm.kills && report.acquisitions >= shortStorm.acquisitions)
  assert.ok(report.abandonedTold > 0, 'somebody died holding')
})

// Journals that were never written by anybody, in which one thing is wrong.

interface Told {
  readonly of?: Acquisition
  readonly pid?: number
}

/** Writes a storm of one mutex by hand. Each step comes a nanosecond after the one before, in whosever journal it stands. */
class Story {
  readonly #journals = new Map<number, Entry[]>()
  #clock = 0n
  #count = { value: 0, writer: { actor: 0, number: 0 } }
  #countBefore = this.#count

  #write(actor: number, entry: Omit<Entry, 'stamp'>): this {
    const began = { kind: 'began', number: actor, process: actor, pid: 100 + actor, thread: 0, stamp: 0n } as const
    const journal: Entry[] = this.#journals.get(actor) ?? [began]
    this.#clock++
    journal.push({ mutex: 0, ...entry, stamp: this.#clock })
    this.#journals.set(actor, journal)
    return this
  }

  wants(actor: number, number = 1): this {
    return this.#write(actor, { kind: 'wants', number, how: 'acquire' })
  }

  refused(actor: number, number = 1): this {
    return this.#write(actor, { kind: 'refused', number, refusal: 'timeout' })
  }

  /** `told`: of whose death. */
  owns(actor: number, told?: Told, number = 1): this {
    const { of, pid = 100 + (of?.actor ?? 0) } = told ?? {}
    const previous = of && { ...of, pid, thread: 0 }
    return this.#write(actor, { kind: 'owns', number, ...this.#count, abandoned: told !== undefined, previous })
  }

  updates(actor: number, number = 1): this {
    this.#countBefore = this.#count
    this.#count = { value: this.#count.value + 1, writer: { actor, number } }
    return this
  }

  leaves(actor: number, number = 1): this {
    return this.#write(actor, { kind: 'leaves', number })
  }

  released(actor: number, number = 1): this {
    return this.#write(actor, { kind: 'released', number })
  }

  /** The conductor's: its journal begins when it kills. */
  kills(actor: number): this {
    return this.#write(0, { kind: 'ends process', subject: actor })
  }

  /** All of an acquisition. */
  takes(actor: number, told?: Told, number = 1): this {
    this.wants(actor, number).owns(actor, told, number).updates(actor, number)
    return this.leaves(actor, number).released(actor, number)
  }

  losesAnUpdate(): this {
    this.#count = this.#countBefore
    return this
  }

  get verdict(): Verdict {
    return examine({ journals: [...this.#journals.values()], mutexes: ['m'], finalValues: [this.#count.value] })
  }
}

const first = { actor: 1, number: 1 }
const ghost = { actor: 2, number: 1 }

const wellDone: Readonly<Record<string, Story>> = {
  'nobody dies': new Story().takes(1).takes(2).takes(1, undefined, 2),
  'a wait ends in vain': new Story().takes(1).wants(2).refused(2).takes(3),
  'a waiter dies': new Story().wants(1).kills(1).takes(2),
  'an owner dies before its update': new Story().wants(1).owns(1).kills(1).takes(2, { of: first }),
  'an owner dies after its update': new Story().wants(1).owns(1).updates(1).kills(1).takes(2, { of: first }),
  'an owner dies before its release': new Story()
    .wants(1)
    .owns(1)
    .updates(1)
    .leaves(1)
    .kills(1)
    .takes(2, { of: first }),
  'an owner dies in its release': new Story().wants(1).owns(1).updates(1).leaves(1).kills(1).takes(2),
  'an owner dies before it says that it is one': new Story().wants(1).kills(1).takes(2, { of: first }),
  'the death of an owner is told to one who dies of it': new Story()
    .wants(1)
    .owns(1)
    .wants(2)
    .kills(1)
    .kills(2)
    .takes(3, { of: ghost }),
  'an owner dies before it says so, after one that died': new Story()
    .wants(1)
    .owns(1)
    .kills(1)
    .wants(2)
    .kills(2)
    .takes(3, { of: first }),
}
for (const [what, story] of Object.entries(wellDone)) {
  test(`the witness has nothing to say where ${what}`, () => assert.deepEqual(story.verdict.violations, []))
}

const wrong: Readonly<Record<string, readonly [Story, RegExp]>> = {
  'two owners overlap': [
    new Story().wants(1).wants(2).owns(1).updates(1).owns(2).leaves(1).released(1).updates(2).leaves(2).released(2),
    /2\.1 .* overlapped for 1 ns with acquisition 1\.1/,
  ],
  'an owner comes before the last one was killed': [
    new Story().wants(1).owns(1).wants(2).owns(2, { of: first }).updates(2).leaves(2).released(2).kills(1),
    /overlapped/,
  ],
  'an update is lost': [
    new Story().takes(1).takes(2).losesAnUpdate().takes(3),
    /found 1 by acquisition 1\.1 .* instead of 2 by acquisition 2\.1: an update was lost/,
  ],
  'the last update is lost': [new Story().takes(1).takes(2).losesAnUpdate(), /the counter is 1 instead of 2/],
  'an update is made by one who never owned': [new Story().takes(1).updates(2).takes(3), /an update was lost/],
  'a death is told twice': [
    new Story().wants(1).owns(1).kills(1).takes(2, { of: first }).takes(3, { of: first }),
    /3\.1 .* was told of the death of acquisition 1\.1, as somebody was before/,
  ],
  'the death of one who never said that it owned is told twice': [
    new Story().wants(2).kills(2).takes(1, { of: ghost }).takes(3, { of: ghost }),
    /as somebody was before/,
  ],
  'a death is told to nobody': [new Story().wants(1).owns(1).kills(1).takes(2), /2\.1 .* was not told of the death/],
  'a death is told to the one after the next': [
    new Story().wants(1).owns(1).kills(1).takes(2).takes(3, { of: first }),
    /came after acquisition 2\.1/,
  ],
  'a death is told without a name': [new Story().wants(1).owns(1).kills(1).takes(2, {}), /but not whose/],
  'a death is told with another name': [
    new Story().wants(1).owns(1).kills(1).takes(2, { of: first, pid: 7 }),
    /was told that acquisition 1\.1 was thread 0 of 7/,
  ],
  'a clean release reads as a death': [new Story().takes(1).takes(2, { of: first }), /came after acquisition 1\.1/],
  'a clean release before a death reads as one': [new Story().takes(1).kills(1).takes(2, { of: first }), /came after/],
  'a wait that ended in vain reads as a death': [
    new Story().wants(2).refused(2).kills(2).takes(1, { of: ghost }),
    /came after nobody/,
  ],
  'one is told dead that still waits': [
    new Story().wants(2).takes(1, { of: ghost }).kills(2),
    /was told of the death of acquisition 2\.1, which was alive/,
  ],
  'a waiter hangs': [new Story().wants(1).takes(2), /1\.1 .* hung/],
  'an owner never releases': [new Story().takes(2).wants(1).owns(1).updates(1).leaves(1), /never released/],
}
for (const [what, [story, says]] of Object.entries(wrong)) {
  test(`the witness tells where ${what}`, () => {
    assert.match(story.verdict.violations.join('\n'), says)
  })
}
