// The crash storm's conductor: keeps a crowd of processes and threads at a few mutexes, kills, stops, terminates and aborts them by a
// schedule that its seed gives, and has the witness examine what they leave. The same seed gives the same acquisitions of each
// thread and the same actions on the same places; which thread is where at that moment is the kernel's scheduling.
import { type ChildProcess, fork } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { NamedMutex } from 'os-mutex'
import { started } from '../support/start.ts'
import { Counter, emptyCount } from './counter.ts'
import { Journal, JournalFile, now } from './journal.ts'
import {
  counterPath,
  deathPoints,
  hasMore,
  journalPath,
  lockFolder,
  noteOwner,
  type Order,
  type Part,
  processArguments,
  purposeOf,
  type Tidings,
} from './participant.ts'
import { Random } from './random.ts'
import { examine, type Verdict } from './witness.ts'

export interface CrashStormOptions {
  readonly seed: number
  /** At least so many processes are killed, and so many locks acquired. */
  readonly kills: number
  readonly acquisitions: number
  /** Ends it before that, though. */
  readonly seconds: number
  readonly processes: number
  readonly workersPerProcess: number
  readonly lanes: number
  readonly mutexes: readonly string[]
}

export const longStorm = {
  kills: 1_000,
  acquisitions: 1_000_000,
  seconds: Number.POSITIVE_INFINITY,
  processes: 20,
  workersPerProcess: 1,
  lanes: 2,
  mutexes: [
    ...['Global\\storm 1', 'Global\\storm 2', 'Global\\storm/3', 'Global\\Sturm ä'],
    ...['storm 1', 'storm 5', 'Local\\storm 6', 'Local\\storm 7'],
  ],
} as const

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
export function crashCommand({ kills, acquisitions, processes, seed }: CrashStormOptions): string {
  return `npm run test:storm -- --kills=${kills} --acquisitions=${acquisitions} --processes=${processes} --seed=${seed}`
}

const noSignals = process.platform === 'win32'
const actions = { kill: 32, die: 32, terminate: 16, stop: noSignals ? 0 : 20, abort: 20 } as const
/** Without any progress for so long something hangs: nobody is that slow. */
const hangMs = 120_000
const look = () => sleep(2)

export async function runCrashStorm(options: CrashStormOptions): Promise<CrashStormReport> {
  const storm = new CrashStorm(options)
  try {
    return await storm.run()
  } finally {
    await storm.end()
  }
}

/** A place in the crowd: one process after the other is in it. */
interface Place {
  readonly index: number
  process: Member
  isBusy: boolean
}

class CrashStorm {
  readonly #options: CrashStormOptions
  readonly #random: Random
  readonly #folder = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-storm-')))
  readonly #members = new Set<Member>()
  readonly #violations: string[] = []
  readonly #journal: Journal
  readonly #counters: readonly Counter[]
  readonly #busy = new Set<Promise<void>>()
  #lockFilesBefore: readonly string[] = []
  readonly #unanswered = new Set<number>()
  #actors = 0
  #processes = 0
  #tally = { kills: 0, killsAtPoints: 0, stops: 0, terminations: 0, abortOrders: 0 }

  constructor(options: CrashStormOptions) {
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
    await this.#makeLockFiles()
    const places = await Promise.all(Array.from({ length: this.#options.processes }, (_, index) => this.#open(index)))
    try {
      await this.#rage(places)
      await this.#watch(this.#calm(places))
      await this.#takeAll()
    } catch (error) {
      // The journals tell more: who hangs, and at what.
      this.#violations.push(String(error))
      await this.#killAll()
    }
    const verdict = this.#examine()
    const seconds = (performance.now() - beganAt) / 1_000
    const violations = [...this.#violations, ...this.#strays(), ...verdict.violations]
    return { ...verdict, violations, ...this.#tally, seconds, survivors: places.length }
  }

  /** Whatever has happened: nobody is left, and nothing on the disk. */
  async end(): Promise<void> {
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
      const lock = await mutex.acquire()
      // Waiting makes the second file.
      const next = mutex.acquire({ detectDeadlock: false })
      lock.release()
      ;(await next).release()
    }
    this.#lockFilesBefore = this.#lockFiles()
  }

  async #killAll(): Promise<void> {
    await Promise.all([...this.#members].map((member) => member.kill()))
  }

  async #open(index: number): Promise<Place> {
    return { index, process: await this.#start(), isBusy: false }
  }

  async #start(): Promise<Member> {
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
    const { kills, acquisitions, seconds } = this.#options
    const endsAt = performance.now() + seconds * 1_000
    const all = Object.values(actions).reduce<number>((sum, weight) => sum + weight, 0)
    const perAction = (acquisitions / kills) * ((actions.kill + actions.die) / all)
    const progress = new Progress('acquires a lock', () => this.#updates())
    for (let next = 0; performance.now() < endsAt && (this.#tally.kills < kills || progress.count < acquisitions); ) {
      progress.look()
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

  #updates(): number {
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
      .catch((error: unknown) => void this.#violations.push(String(error)))
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
    this.#members.delete(process)
    place.process = await this.#start()
  }

  /** Whoever is to die does, and everybody else ends what was begun. */
  async #calm(places: readonly Place[]): Promise<void> {
    await Promise.all(this.#busy)
    const stops = places.map(async ({ process }) => {
      this.#unanswered.add(process.number)
      process.send({ do: 'stop' })
      const { before, after, open } = await process.seen('stopped')
      this.#unanswered.delete(process.number)
      if (!hasMore(after, before)) return
      const [had, has] = [JSON.stringify(before), JSON.stringify(after)]
      const what = `had ${had} at its beginning, and has ${has} at its end, with ${open.join(', ')}`
      this.#violations.push(`process ${process.number} ${what}`)
    })
    await Promise.all(stops)
  }

  /** Rejects when it hangs, as is seen by nothing being written any more. */
  async #watch(work: Promise<void>): Promise<void> {
    const journals = join(this.#folder, 'journals')
    const sizes = () => readdirSync(journals).reduce((sum, name) => sum + statSync(join(journals, name)).size, 0)
    const progress = new Progress('writes anything', sizes, () => `, and not stopped are: ${[...this.#unanswered]}`)
    let isDone = false
    const done = work.finally(() => {
      isDone = true
    })
    done.catch(() => {})
    for (; !isDone; await look()) progress.look()
    await done
  }

  /** The next owner after the last death: without one it would be told to nobody. */
  async #takeAll(): Promise<void> {
    for (const [mutex, name] of this.#options.mutexes.entries()) {
      using named = new NamedMutex(name, { directory: lockFolder(this.#folder) })
      const number = mutex + 1
      const conductor = { actor: 0, number }
      this.#journal.write({ kind: 'wants', stamp: now(), mutex, number })
      const lock = await named.acquire({ timeoutMs: hangMs, purpose: purposeOf(conductor) })
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

/** Sees whether a count grows. */
class Progress {
  readonly #what: string
  readonly #read: () => number
  readonly #more: () => string
  #grewAt = performance.now()
  count = 0

  constructor(what: string, read: () => number, more = () => '') {
    this.#what = what
    this.#read = read
    this.#more = more
  }

  look(): void {
    const count = this.#read()
    if (count !== this.count) this.#grewAt = performance.now()
    this.count = count
    if (performance.now() - this.#grewAt > hangMs) {
      throw new Error(`For ${hangMs / 1_000} s nobody ${this.#what}${this.#more()}`)
    }
  }
}

type TidingsOf<K extends Tidings['is']> = Tidings & { readonly is: K }

/** A process of the storm. */
class Member {
  readonly number: number
  readonly ended: Promise<void>
  isToDie = false
  readonly #child: ChildProcess
  readonly #waiting = new Map<string, { resolve: (tidings: Tidings) => void; reject: (error: Error) => void }>()
  #ending: string | undefined

  constructor(part: Part) {
    this.number = part.process
    const program = fileURLToPath(new URL('./participant.js', import.meta.url))
    this.#child = started(() =>
      fork(program, processArguments(part), { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
    )
    this.#child.on('message', (tidings: Tidings) => {
      this.#waiting.get(tidings.is)?.resolve(tidings)
      this.#waiting.delete(tidings.is)
    })
    // Orders to one that has just died.
    this.#child.on('error', () => {})
    this.ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        this.#ending = String(signal ?? code)
        const error = new Error(`process ${this.number} of the storm ended by itself (${this.#ending})`)
        for (const { reject } of this.#waiting.values()) reject(error)
        resolve()
      })
    })
  }

  /** Ended, though nobody has killed it. */
  throwIfAstray(): void {
    if (this.#ending !== undefined && !this.isToDie) {
      throw new Error(`process ${this.number} of the storm ended by itself (${this.#ending})`)
    }
  }

  send(order: Order): void {
    this.#child.send(order, () => {})
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** The next such tidings. */
  seen<K extends Tidings['is']>(is: K): Promise<TidingsOf<K>> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(is, { resolve: (tidings) => resolve(tidings as TidingsOf<K>), reject })
    })
  }

  async kill(): Promise<void> {
    if (this.#ending !== undefined) return
    this.#child.kill('SIGKILL')
    await this.ended
  }
}
