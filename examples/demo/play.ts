// The plot: who begins when, and who is killed at which moment. Every step waits for a report, none for a timer.
import { createHash } from 'node:crypto'
import { createReadStream, mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { setImmediate } from 'node:timers/promises'
import { NamedMutex } from 'os-mutex'
import type { ChildEnding } from '../../test/support/child.ts'
import { type Listener, type Participant, startProcess, startThreads } from './cast.ts'
import type { DemoModel } from './model.ts'
import type { Briefing } from './protocol.ts'
import { fractionOf, type ParticipantRecord } from './record.ts'
import type { Evidence } from './verdict.ts'

/** How far the first download gets. */
const KILL_AT = 0.4

export class Play {
  readonly records: readonly ParticipantRecord[]
  readonly #model: DemoModel
  readonly #models: string
  readonly #locks: string
  readonly #all: readonly Participant[]
  /** Begins alone, so that it is the one that downloads. */
  readonly #first: Participant
  /** Of these one is killed in its load: a thread's end would be its whole process's. */
  readonly #processes: readonly Participant[]
  /** Begins after the second kill, so that somebody comes to be told of it, in whatever order the others had their turns. */
  readonly #latecomer: Participant

  constructor(folder: string, model: DemoModel, listener: Listener) {
    this.#model = model
    this.#models = join(folder, 'models')
    this.#locks = join(folder, 'locks')
    mkdirSync(this.#models)
    mkdirSync(this.#locks)

    const briefing: Briefing = {
      gate: { modelsDirectory: this.#models, mutexDirectory: this.#locks },
      source: model.source,
      // Processes share the memory of a mapped model; the demo's own is small, and when it is read its bar moves.
      useMmap: model.original === undefined,
    }
    const start = (name: string) => startProcess(name, briefing, listener)
    this.#first = start('P1')
    this.#processes = ['P2', 'P3', 'P4', 'P5', 'P6'].map(start)
    this.#latecomer = start('P7')
    const threads = startThreads(['T1', 'T2'], briefing, listener)
    this.#all = [this.#first, ...this.#processes, this.#latecomer, ...threads]
    this.records = this.#all.map(({ record }) => record)
  }

  async perform(): Promise<Evidence> {
    await Promise.all(this.#all.map((participant) => participant.until(({ activity }) => activity.is !== 'starting')))
    await this.#killInDownload()
    await this.#killInLoad()
    this.#latecomer.tell('begin')
    await Promise.all(this.#all.map((participant) => participant.until(({ isOver }) => isOver)))

    // All survivors are still there: a lock that nobody holds now was released, and not freed by its owner's end.
    const mutexes = this.#mutexNames().map((name) => ({ name, held: this.#query(name).held }))
    return {
      records: this.records,
      original: this.#model.original,
      served: this.#model.served?.(),
      published: await this.#readPublished(),
      folder: readdirSync(this.#models),
      mutexes,
      endings: await this.#dismiss(),
    }
  }

  async #killInDownload(): Promise<void> {
    const victim = this.#first
    victim.tell('begin')
    await victim.until(({ activity }) => activity.is === 'downloading' && activity.phase === 'downloading')
    for (const participant of this.#all) {
      if (participant !== victim && participant !== this.#latecomer) participant.tell('begin')
    }
    const isDue = await victim.until(({ activity }) => {
      return activity.is === 'downloading' && (fractionOf(activity) ?? 0) >= KILL_AT
    })
    if (isDue) await this.#killAt(victim, 'downloading')
  }

  /**
   * Tries one process after the other, since a load may be over before the news of it is here. The first two get on with it
   * until llama.cpp itself tells of progress, which of a small model it often does too late; the others are caught at once.
   */
  async #killInLoad(): Promise<void> {
    const candidates = new Set(this.#processes)
    while (candidates.size > 0) {
      const beginnings = [...candidates].map(async (victim) => {
        const isLoading = await victim.until(({ activity }) => activity.is === 'loading')
        return { victim, isLoading }
      })
      const { victim, isLoading } = await Promise.race(beginnings)
      candidates.delete(victim)
      if (candidates.size > 2) {
        await victim.until(({ activity }) => activity.is !== 'loading' || activity.fraction > 0)
      }
      if (isLoading && (await this.#killAt(victim, 'loading'))) return
    }
  }

  /**
   * Stopped in the middle of its work, a victim cannot end it or release the lock between the look at both and the kill.
   * Gives whether it was killed.
   */
  async #killAt(victim: Participant, work: 'downloading' | 'loading'): Promise<boolean> {
    await victim.freeze()
    await unreadReports()
    const { record } = victim
    const mutex = record.mutexes.find((name) => name.includes(work === 'loading' ? '_Model_' : '_Download_'))
    const owner = mutex === undefined ? undefined : this.#query(mutex).owner
    const isDue = record.activity.is === work && owner !== undefined && owner.pid === record.pid
    if (isDue) await victim.kill(owner.pid)
    else victim.thaw()
    return isDue
  }

  #mutexNames(): string[] {
    return [...new Set(this.records.flatMap(({ mutexes }) => mutexes))]
  }

  #query(mutex: string): ReturnType<NamedMutex['query']> {
    using instance = new NamedMutex(mutex, { directory: this.#locks })
    return instance.query()
  }

  async #readPublished(): Promise<Evidence['published']> {
    const path = this.records.find(({ file }) => file !== undefined)?.file?.path
    if (path === undefined) return undefined
    const hash = createHash('sha256')
    const file = createReadStream(path)
    await pipeline(file, hash)
    return { bytes: file.bytesRead, sha256: hash.digest('hex') }
  }

  async #dismiss(): Promise<ChildEnding[]> {
    const survivors = this.#all.filter(({ record }) => record.activity.is !== 'killed')
    for (const participant of survivors) participant.tell('quit')
    // Threads of one process end with it.
    const byProcess = new Map(survivors.map((participant) => [participant.record.pid, participant]))
    return Promise.all([...byProcess.values()].map((participant) => participant.ended()))
  }
}

/** Resolves when all that was said before is heard: the event loop's turn under way may have looked for messages already. */
async function unreadReports(): Promise<void> {
  await setImmediate()
  await setImmediate()
}
