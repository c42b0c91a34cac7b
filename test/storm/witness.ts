// Says from the journals of a storm whether each mutex kept its promises, although most of its owners were killed.
//
// An owner is known by its record 'owns', which it writes after the acquire and before it changes anything. Sorted by their stamps, which
// lie within the holds, the owners of a mutex stand in the order in which they held it. What a death makes uncertain is this, and
// nothing else:
//
//   it died after     the mutex              its update         the next owner in the journals is told of
//   'wants'           was perhaps its own    there is none      it, or whatever the next one deserves without it: a "ghost"
//   'owns'            was its own            was made or not    it, or a ghost that came between and was told, and died of it
//   'leaves'          was perhaps released   was made           it, or nothing, or a ghost
//   'released'        was released           was made           nothing, or a ghost
//
// A ghost may stand between any two owners: it had the lock and wrote its owner record, but died before it could write 'owns'. It has
// changed nothing, since that comes after. Only a thread that died can be one, so whoever names a ghost names a death.
import type { Acquisition, Entry, How, Refusal } from './journal.ts'

export interface Evidence {
  readonly journals: readonly Iterable<Entry>[]
  readonly mutexes: readonly string[]
  /** What the counters say at the end, by mutex. */
  readonly finalValues: readonly number[]
}

export interface Verdict {
  /** In words. None: all promises were kept. */
  readonly violations: readonly string[]
  readonly acquisitions: number
  readonly acquisitionsBy: Readonly<Partial<Record<How, number>>>
  readonly refusals: Readonly<Partial<Record<Refusal, number>>>
  /** Of each mutex. */
  readonly shares: readonly number[]
  readonly deaths: Deaths
  readonly abandonedTold: number
  readonly longestWaitMs: number
}

/** Acquisitions that their thread's death has cut short, by where it was. */
interface Deaths {
  readonly threads: number
  /** Threads that held something by their own word. */
  readonly holders: number
  /** Waiting, or the owner without having said so. */
  readonly wanting: number
  readonly owning: number
  /** Between the update and the return of the release. */
  readonly leaving: number
}

interface Thread {
  readonly actor: number
  readonly process: number
  readonly pid: number
  readonly thread: number
  diedAt?: bigint
}

/** From 'wants' on. */
interface Hold extends Acquisition {
  readonly mutex: number
  readonly wantedAt: bigint
  readonly how: How
  owned?: Owned
  leftAt?: bigint
  isReleased?: true
}

type Owned = Pick<Entry, 'previous'> & Required<Pick<Entry, 'stamp' | 'value' | 'writer' | 'abandoned'>>
type Owner = Hold & { readonly owned: Owned }

export function examine(evidence: Evidence): Verdict {
  return new Witness(evidence).examine()
}

class Witness {
  readonly #evidence: Evidence
  readonly #violations: string[] = []
  readonly #threads = new Map<number, Thread>()
  readonly #owners: Owner[][]
  readonly #ghosts = new Map<string, Hold>()
  readonly #refusals: Partial<Record<Refusal, number>> = {}
  readonly #told = new Set<string>()
  #longestWait = 0n

  constructor(evidence: Evidence) {
    this.#evidence = evidence
    this.#owners = evidence.mutexes.map(() => [])
  }

  examine(): Verdict {
    const { journals, mutexes } = this.#evidence
    for (const journal of journals) this.#meet(journal)
    for (const journal of journals) for (const entry of journal) this.#bury(entry)
    for (const journal of journals) this.#read(journal)
    for (const mutex of mutexes.keys()) this.#follow(mutex)
    return this.#verdict()
  }

  #meet([first]: Iterable<Entry>): void {
    // A process may be killed before it has written anything.
    if (first === undefined) return
    const { kind, number: actor = 0, process = 0, pid = 0, thread = 0 } = first
    if (kind !== 'began') throw new Error(`A journal begins with '${kind}'`)
    this.#threads.set(actor, { actor, process, pid, thread })
  }

  #bury({ kind, subject, stamp }: Entry): void {
    if (kind === 'ends thread') this.#die(this.#threads.get(subject ?? 0), stamp)
    if (kind !== 'ends process') return
    for (const thread of this.#threads.values()) if (thread.process === subject) this.#die(thread, stamp)
  }

  /** It did not die before its first end was begun. */
  #die(thread: Thread | undefined, stamp: bigint): void {
    if (thread && (thread.diedAt === undefined || stamp < thread.diedAt)) thread.diedAt = stamp
  }

  #read(journal: Iterable<Entry>): void {
    let actor = 0
    const open = new Map<string, Hold>()
    for (const entry of journal) {
      const { kind, mutex = 0, number = 0, stamp } = entry
      const key = `${mutex} ${number}`
      if (kind === 'ends thread' || kind === 'ends process') continue
      if (kind === 'began') {
        actor = number
        continue
      }
      if (kind === 'wants') {
        open.set(key, { actor, number, mutex, wantedAt: stamp, how: entry.how ?? 'acquire' })
        continue
      }
      const hold = open.get(key)
      if (hold === undefined) throw new Error(`A journal has '${kind}' of what was not wanted`)
      if (kind === 'owns') this.#own(hold, entry)
      if (kind === 'leaves') hold.leftAt = stamp
      if (kind === 'released') hold.isReleased = true
      if (kind === 'refused') this.#count(entry.refusal ?? 'taken')
      if (kind === 'released' || kind === 'refused') open.delete(key)
    }
    for (const hold of open.values()) this.#cutShort(hold)
  }

  #own(hold: Hold, { stamp, value = 0, writer = { actor: 0, number: 0 }, abandoned = false, previous }: Entry): void {
    hold.owned = { stamp, value, writer, abandoned, previous }
    this.#owners[hold.mutex]?.push(hold as Owner)
    const waited = stamp - hold.wantedAt
    if (waited > this.#longestWait) this.#longestWait = waited
  }

  #count(refusal: Refusal): void {
    this.#refusals[refusal] = (this.#refusals[refusal] ?? 0) + 1
  }

  #cutShort(hold: Hold): void {
    if (this.#threads.get(hold.actor)?.diedAt === undefined) {
      this.#accuse(
        hold,
        hold.owned ? 'was never released, and its thread lives' : 'hung: it got neither lock nor error',
      )
    } else if (!hold.owned) {
      this.#ghosts.set(keyOf(hold.mutex, hold), hold)
    }
  }

  #follow(mutex: number): void {
    const owners = (this.#owners[mutex] ?? []).sort((a, b) => Number(a.owned.stamp - b.owned.stamp))
    let previous: Owner | undefined
    for (const owner of owners) {
      this.#checkAlone(previous, owner)
      this.#checkUpdate(previous, owner)
      this.#checkTold(previous, owner)
      previous = owner
    }
    if (previous === undefined) return
    // The last one is the conductor's, which nobody kills.
    const [value, final] = [previous.owned.value + 1, this.#evidence.finalValues[mutex]]
    if (previous.leftAt === undefined || value !== final) {
      this.#accuse(previous, `was the last, and the counter is ${final} instead of ${value}`)
    }
  }

  /** Whoever was killed owned it at least until that was begun. */
  #checkAlone(previous: Owner | undefined, owner: Owner): void {
    const until = previous && (previous.leftAt ?? this.#threads.get(previous.actor)?.diedAt)
    if (previous === undefined || until === undefined || owner.owned.stamp >= until) return
    this.#accuse(owner, `overlapped for ${until - owner.owned.stamp} ns with ${this.#describe(previous)}`)
  }

  #checkUpdate(previous: Owner | undefined, owner: Owner): void {
    const found = owner.owned
    const may = previous === undefined ? [{ value: 0, writer: { actor: 0, number: 0 } }] : statesAfter(previous)
    if (may.some(({ value, writer }) => value === found.value && isSame(writer, found.writer))) return
    const expected = may.map(({ value, writer }) => `${value} by ${name(writer)}`).join(' or ')
    this.#accuse(
      owner,
      `found ${found.value} by ${name(found.writer)} in the counter instead of ${expected}: an update was lost`,
    )
  }

  #checkTold(previous: Owner | undefined, owner: Owner): void {
    const { abandoned, previous: dead } = owner.owned
    if (!abandoned) {
      if (previous !== undefined && previous.leftAt === undefined) {
        this.#accuse(owner, `was not told of the death of ${this.#describe(previous)}`)
      }
      return
    }
    if (dead === undefined) {
      this.#accuse(owner, 'was told of a death, but not whose')
      return
    }
    const key = keyOf(owner.mutex, dead)
    const isPrevious = previous !== undefined && isSame(previous, dead) && !previous.isReleased
    const thread = this.#threads.get(dead.actor)
    if (!isPrevious && !this.#ghosts.has(key)) {
      const before = previous === undefined ? 'nobody' : this.#describe(previous)
      this.#accuse(owner, `was told of the death of ${name(dead)}, but came after ${before}`)
    } else if (thread?.diedAt === undefined || thread.diedAt > owner.owned.stamp) {
      this.#accuse(owner, `was told of the death of ${name(dead)}, which was alive`)
    } else if (thread.pid !== dead.pid || thread.thread !== dead.thread) {
      this.#accuse(owner, `was told that ${name(dead)} was thread ${dead.thread} of ${dead.pid}`)
    }
    if (this.#told.has(key)) this.#accuse(owner, `was told of the death of ${name(dead)}, as somebody was before`)
    this.#told.add(key)
  }

  #accuse(hold: Hold, what: string): void {
    this.#violations.push(`${this.#evidence.mutexes[hold.mutex]}: ${this.#describe(hold)} ${what}`)
  }

  #describe(hold: Hold): string {
    const thread = this.#threads.get(hold.actor)
    const stamps = [`wanted ${hold.wantedAt}`]
    if (hold.owned) stamps.push(`owned ${hold.owned.stamp}`)
    if (hold.leftAt !== undefined) stamps.push(`left ${hold.leftAt}`)
    if (thread?.diedAt !== undefined) stamps.push(`died ${thread.diedAt}`)
    return `${name(hold)} (${hold.how}, pid ${thread?.pid}, ${stamps.join(', ')})`
  }

  #verdict(): Verdict {
    const owners = this.#owners.flat()
    const acquisitionsBy: Partial<Record<How, number>> = {}
    for (const { how } of owners) acquisitionsBy[how] = (acquisitionsBy[how] ?? 0) + 1
    const cutShort = owners.filter(({ isReleased }) => !isReleased)
    const owning = cutShort.filter(({ leftAt }) => leftAt === undefined).length
    return {
      violations: this.#violations,
      acquisitions: owners.length,
      acquisitionsBy,
      refusals: this.#refusals,
      shares: this.#owners.map(({ length }) => length),
      deaths: {
        threads: [...this.#threads.values()].filter(({ diedAt }) => diedAt !== undefined).length,
        holders: new Set(cutShort.map(({ actor }) => actor)).size,
        wanting: this.#ghosts.size,
        owning,
        leaving: cutShort.length - owning,
      },
      abandonedTold: this.#told.size,
      longestWaitMs: Number(this.#longestWait) / 1e6,
    }
  }
}

/** What may be in the counter after an owner: its update, and where it died on the way to it, perhaps not. */
function statesAfter(owner: Owner): readonly Pick<Owned, 'value' | 'writer'>[] {
  const updated = { value: owner.owned.value + 1, writer: owner }
  return owner.leftAt === undefined ? [updated, owner.owned] : [updated]
}

function isSame(a: Acquisition, b: Acquisition): boolean {
  return a.actor === b.actor && a.number === b.number
}

function keyOf(mutex: number, { actor, number }: Acquisition): string {
  return `${mutex} ${actor} ${number}`
}

function name({ actor, number }: Acquisition): string {
  return `acquisition ${actor}.${number}`
}
