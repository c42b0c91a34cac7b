// The crash storm's conductor: keeps a crowd of processes and threads at a few mutexes, kills, stops, terminates and aborts them by a
// schedule that its seed gives, and has the witness examine what they leave. The same seed gives the same acquisitions of each
// thread and the same actions on the same places; which thread is where at that moment is the kernel's scheduling.
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { NamedMutex } from 'os-mutex'
import { Counter, emptyCount } from './counter.ts'
import { Journal, JournalFile, now } from './journal.ts'
import { Member } from './member.ts'
import {
  counterPath,
  deathPoints,
  hasMore,
  journalPath,
  lockFolder,
  noteOwner,
  type Order,
  purposeOf,
} from './participant.ts'
import { Progress, type ProgressOptions, watched } from './progress.ts'
import { Random } from './random.ts'
import { lengthOptions, runStorm, type Storm, type StormLength } from './storm.ts'
import { examine, type Verdict } from './witness.ts'

export interface CrashStormOptions extends StormLength {
  readonly seed: number
  /** At least so many processes are killed, and so many locks acquired. A timed storm has their ratio alone. */
  readonly kills: number
  readonly acquisitions: number
  readonly processes: number
  readonly workersPerProcess: number
  readonly lanes: number
  readonly mutexes: readonly string[]
}

export const longStorm = {
  kills: 1_000,
  acquisitions: 1_000_000,
  isTimed: false,
  seconds: Number.POSITIVE_INFINITY,
  hangSeconds: 120,
  processes: 20,
  workersPerProcess: 1,
  lanes: 2,
  mutexes: [
    ...['Global\\storm 1', 'Global\\storm 2', 'Global\\storm/3', 'Global\\Sturm ä'],
    ...['storm 1', 'storm 5', 'Local\\storm 6', 'Local\\storm 7'],
  ],
} as const satisfies Omit<CrashStormOptions, 'seed'>

export const shortStorm = { ...longStorm, kills: 30, acquisitions: 12_000, processes: 6 } as const

export interface CrashStormReport extends Verdict {
  readonly kills: number
  /** Of the kills, so many at a chosen place in the victim's code. */
  readonly killsAtPoints: number
  readonly stops: number
  readonly terminations: number
  readonly abortOrders: number
  readonly seconds: number
  /** Processes that lived to the end, and were looked at for what they leave. */
  readonly survivors: number
}

/** What does the same again. */
export function crashCommand(options: CrashStormOptions): string {
  const { kills, acquisitions, processes, seed } = options
  const length = lengthOptions(`--kills=${kills} --acquisitions=${acquisitions}`, options)
  return `npm run test:storm -- ${length} --processes=${processes} --seed=${seed}`
}

const noSignals = process.platform === 'win32'
const actions = { kill: 32, die: 32, terminate: 16, stop: noSignals ? 0 : 20, abort: 20 } as const
const look = () => sleep(2)

export function runCrashStorm(options: CrashStormOptions): Promise<CrashStormReport> {
  return runStorm(new CrashStorm(options))
}

/** A place in the crowd: one process after the other is in it. */
interface Place {
  readonly index: number
  process: Member
  isBusy: boolean
}

export class CrashStorm implements Storm<CrashStormReport> {
  readonly command: string
  readonly violations: string[] = []
  readonly #options: CrashStormOptions
  readonly #random: Random
  readonly #folder = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-storm-')))
  readonly #members = new Set<Member>()
  readonly #journal: Journal
  readonly #counters: readonly Counter[]
  readonly #busy = new Set<Promise<void>>()
  #lockFilesBefore: readonly string[] = []
  readonly #unanswered = new Set<number>()
  #failure: unknown
  #isOver = false
  #actors = 0
  #processes = 0
  #tally = { kills: 0, killsAtPoints: 0, stops: 0, terminations: 0, abortOrders: 0 }

  constructor(options: CrashStormOptions) {
    this.command = crashCommand(options)
    this.#options = options
    this.#random = new Random(options.seed)
    mkdirSync(lockFolder(this.#folder))
    mkdirSync(join(this.#folder, 'journals'))
    for (const mutex of options.mutexes.keys()) writeFileSync(counterPath(this.#folder, mutex), emptyCount)
    this.#counters = options.mutexes.map((_, mutex) => new Counter(counterPath(this.#folder, mutex)))
    this.#journal = new Journal(journalPath(this.#folder, 0))
    this.#journal.write({ kind: 'began', stamp: now(), number: 0, process: 0, pid: process.pid, thread: 0 })
  }

  async run(): Promise<CrashStormReport> {
    const beganAt = performance.now()
    try {
      await this.#makeLockFiles()
      const indices = Array.from({ length: this.#options.processes }, (_, index) => index)
      const places = await this.#watch(Promise.all(indices.map((index) => this.#open(index))))
      await this.#rage(places)
      await this.#watch(this.#calm(places))
      await this.#takeAll()
      const verdict = this.#examine()
      this.violations.push(...this.#strays(), ...verdict.violations)
      this.#throwIfShort()
      const seconds = (performance.now() - beganAt) / 1_000
      return { ...verdict, violations: this.violations, ...this.#tally, seconds, survivors: places.length }
    } catch (error) {
      if (this.#isOver) throw error
      await this.#killAll()
      throw new Error(`${error instanceof Error ? error.message : error}${this.#lastWords()}`, { cause: error })
    }
  }

  get progress(): string {
    const { kills, acquisitions, isTimed } = this.#options
    const of = (asked: number) => (isTimed ? '' : ` of ${asked}`)
    const updates = this.#updates
    return `${this.#tally.kills}${of(kills)} kills and ${updates}${of(acquisitions)} acquisitions`
  }

  /** A storm that was too short proves nothing, though it broke no promise. */
  #throwIfShort(): void {
    const { kills, acquisitions, isTimed, seconds } = this.#options
    if (isTimed ? this.#tally.kills > 0 : this.#tally.kills >= kills && this.#updates >= acquisitions) return
    throw new Error(`its ${seconds} s were over before it had come to all that was asked for`)
  }

  /** The journals of a storm that can't go on: who hangs, and at what. They also tell of those that were only just killed. */
  #lastWords(): string {
    try {
      return ['', ...this.#examine().violations.slice(0, 20)].join('\nIn the journals: ')
    } catch (error) {
      return `\nThe journals can't be read: ${error}`
    }
  }

  /** Whatever has happened: nobody is left, and nothing on the disk. */
  async end(): Promise<void> {
    this.#isOver = true
    await this.#killAll()
    this.#journal.close()
    for (const counter of this.#counters) counter.close()
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 6 })
  }

  /**
   * A lock file is made under another name and gets its own when it is complete. Whoever is killed in between leaves that one: by
   * making all of them before the storm, whatever comes to the folder later is a leak.
   */
  async #makeLockFiles(): Promise<void> {
    for (const name of this.#options.mutexes) {
      using mutex = new NamedMutex(name, { directory: lockFolder(this.#folder) })
      const lock = await mutex.acquire(this.#limit)
      // Waiting makes the second file.
      const next = mutex.acquire({ ...this.#limit, detectDeadlock: false })
      lock.release()
      ;(await next).release()
    }
    this.#lockFilesBefore = this.#lockFiles()
  }

  get #limit(): { readonly timeoutMs: number } {
    return { timeoutMs: this.#options.hangSeconds * 1_000 }
  }

  async #killAll(): Promise<void> {
    await Promise.all([...this.#members].map((member) => member.kill()))
  }

  async #open(index: number): Promise<Place> {
    return { index, process: await this.#start(), isBusy: false }
  }

  async #start(): Promise<Member> {
    if (this.#isOver) throw new Error('The storm is over')
    const { seed, mutexes, lanes, workersPerProcess } = this.#options
    const member = new Member({
      ...{ folder: this.#folder, seed, mutexes, lanes },
      actor: this.#nextActor(),
      process: ++this.#processes,
      workers: Array.from({ length: workersPerProcess }, () => this.#nextActor()),
    })
    this.#members.add(member)
    await member.seen('ready')
    return member
  }

  #nextActor(): number {
    this.#actors++
    return this.#actors
  }

  /** One action after so many acquisitions, until there were enough of both. */
  async #rage(places: readonly Place[]): Promise<void> {
    const { kills, acquisitions, seconds, isTimed } = this.#options
    const endsAt = performance.now() + seconds * 1_000
    const all = Object.values(actions).reduce<number>((sum, weight) => sum + weight, 0)
    const perAction = (acquisitions / kills) * ((actions.kill + actions.die) / all)
    const progress = new Progress(this.#watching('acquired a lock', () => this.#updates))
    const isDue = () => isTimed || this.#tally.kills < kills || progress.count < acquisitions
    for (let next = 0; performance.now() < endsAt && isDue(); ) {
      progress.look()
      this.#throwIfFailed()
      for (const { process } of places) process.throwIfAstray()
      const free = places.filter(({ isBusy }) => !isBusy)
      if (progress.count < next || free.length === 0) {
        await look()
        continue
      }
      next += perAction * 2 * this.#random.next()
      this.#act(this.#random.pick(free))
    }
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure
  }

  get #updates(): number {
    return this.#counters.reduce((sum, counter) => sum + counter.read().value, 0)
  }

  #act(place: Place): void {
    const random = this.#random
    const action = random.weighted(actions)
    const ms = random.below(30)
    const inWorker = random.chance(0.5) ? { worker: random.below(this.#options.workersPerProcess) } : {}
    switch (action) {
      case 'kill':
        this.#tally.kills++
        this.#keepBusy(place, () => this.#replace(place, () => this.#kill(place)))
        break
      case 'die': {
        const order: Order = { do: 'die', at: random.pick(deathPoints), ...inWorker }
        this.#tally.kills++
        this.#tally.killsAtPoints++
        this.#keepBusy(place, () => this.#replace(place, () => place.process.send(order)))
        break
      }
      case 'terminate': {
        const worker = random.below(this.#options.workersPerProcess)
        this.#tally.terminations++
        this.#keepBusy(place, async () => {
          place.process.send({ do: 'terminate', worker, successor: this.#nextActor() })
          await place.process.seen('terminated')
        })
        break
      }
      case 'stop': {
        const isKilled = random.chance(0.3)
        this.#tally.stops++
        if (isKilled) this.#tally.kills++
        this.#keepBusy(place, async () => {
          place.process.signal('SIGSTOP')
          await sleep(ms)
          if (isKilled) await this.#replace(place, () => this.#kill(place))
          else place.process.signal('SIGCONT')
        })
        break
      }
      case 'abort':
        this.#tally.abortOrders++
        place.process.send({ do: 'abort', ...inWorker })
    }
  }

  #keepBusy(place: Place, work: () => Promise<void>): void {
    place.isBusy = true
    const busy = work()
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .finally(() => {
        place.isBusy = false
        this.#busy.delete(busy)
      })
    this.#busy.add(busy)
  }

  #kill({ process }: Place): void {
    this.#journal.write({ kind: 'ends process', stamp: now(), subject: process.number })
    process.signal('SIGKILL')
  }

  async #replace(place: Place, end: () => void): Promise<void> {
    const { process } = place
    process.isToDie = true
    end()
    await process.ended
    process.throwIfAstray()
    this.#members.delete(process)
    place.process = await this.#start()
  }

  /** Whoever is to die does, and everybody else ends what was begun. */
  async #calm(places: readonly Place[]): Promise<void> {
    await Promise.all(this.#busy)
    this.#throwIfFailed()
    const stops = places.map(async ({ process }) => {
      this.#unanswered.add(process.number)
      process.send({ do: 'stop' })
      const { before, after, open } = await process.seen('stopped')
      this.#unanswered.delete(process.number)
      if (!hasMore(after, before)) return
      const [had, has] = [JSON.stringify(before), JSON.stringify(after)]
      const what = `had ${had} at its beginning, and has ${has} at its end, with ${open.join(', ')}`
      this.violations.push(`process ${process.number} ${what}`)
    })
    await Promise.all(stops)
  }

  /** Rejects when it hangs, as is seen by nothing being written any more. */
  #watch<T>(work: Promise<T>): Promise<T> {
    const journals = join(this.#folder, 'journals')
    const sizes = () => readdirSync(journals).reduce((sum, name) => sum + statSync(join(journals, name)).size, 0)
    const more = () => (this.#unanswered.size === 0 ? '' : `, and not stopped are: ${[...this.#unanswered]}`)
    return watched(work, { ...this.#watching('wrote anything', sizes), more })
  }

  #watching(what: string, read: () => number): ProgressOptions {
    return { what, read, hangSeconds: this.#options.hangSeconds }
  }

  /** The next owner after the last death: without one it would be told to nobody. */
  async #takeAll(): Promise<void> {
    for (const [mutex, name] of this.#options.mutexes.entries()) {
      using named = new NamedMutex(name, { directory: lockFolder(this.#folder) })
      const number = mutex + 1
      const conductor = { actor: 0, number }
      this.#journal.write({ kind: 'wants', stamp: now(), mutex, number })
      const lock = await named.acquire({ ...this.#limit, purpose: purposeOf(conductor) })
      const [stamp, counter] = [now(), this.#counters[mutex] as Counter]
      const found = counter.read()
      noteOwner(this.#journal, { stamp, mutex, number, found, lock })
      counter.write({ value: found.value + 1, writer: conductor })
      this.#journal.write({ kind: 'leaves', stamp: now(), mutex, number })
      lock.release()
      this.#journal.write({ kind: 'released', stamp: now(), mutex, number })
    }
  }

  #examine(): Verdict {
    const journals = readdirSync(join(this.#folder, 'journals')).map(
      (name) => new JournalFile(join(this.#folder, 'journals', name)),
    )
    const finalValues = this.#counters.map((counter) => counter.read().value)
    return examine({ journals, mutexes: this.#options.mutexes, finalValues })
  }

  /** What has come into the lock folder since the beginning, when all lock files were there. */
  #strays(): string[] {
    const strays = this.#lockFiles().filter((name) => !this.#lockFilesBefore.includes(name))
    return strays.map((name) => `${name} was left among the lock files`)
  }

  #lockFiles(): string[] {
    return readdirSync(lockFolder(this.#folder), { recursive: true, encoding: 'utf8' })
  }
}
