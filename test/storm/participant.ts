// One who takes part in the crash storm: the main thread of a process, or a worker thread of it. Its lanes take mutex after mutex, in
// ways that its own stream of random numbers chooses, until it is told to stop or ended. Steered by crash-storm.ts.
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { isMainThread, parentPort, threadId, Worker, workerData } from 'node:worker_threads'
import { acquireAll, MutexError, type MutexLock, NamedMutex } from 'os-mutex'
import { ifCountable, type Resources, resources } from '../support/resources.ts'
import { until } from '../support/until.ts'
import { type Count, Counter } from './counter.ts'
import { type Acquisition, type Entry, type How, Journal, now, type Refusal } from './journal.ts'
import { Random } from './random.ts'

export interface Part {
  readonly folder: string
  readonly seed: number
  readonly mutexes: readonly string[]
  /** Its number among all threads of the storm, and its process's among all processes. */
  readonly actor: number
  readonly process: number
  readonly lanes: number
  /** Numbers of the worker threads that it begins with. */
  readonly workers: readonly number[]
}

/** Where it may be told to die: between any two of the steps of which the journal and the counter tell. */
export const deathPoints = ['acquired', 'owning', 'updated', 'leaving', 'released'] as const
export type DeathPoint = (typeof deathPoints)[number]

export type Order =
  /** Aborts all that is waiting and can be aborted. `worker`: in the how manieth worker thread; none: in the main thread. */
  | { readonly do: 'abort'; readonly worker?: number }
  /** Kills its process at the next such point. */
  | { readonly do: 'die'; readonly at: DeathPoint; readonly worker?: number }
  /** Ends a worker thread and starts another one in its place. */
  | { readonly do: 'terminate'; readonly worker: number; readonly successor: number }
  | { readonly do: 'stop' }

export type Tidings =
  | { readonly is: 'ready' }
  | { readonly is: 'terminated' }
  /** All lanes have ended, and nothing is open any more: what the process has, compared with the beginning. */
  | { readonly is: 'stopped'; readonly before: Resources; readonly after: Resources; readonly open: readonly string[] }

export function lockFolder(folder: string): string {
  return join(folder, 'locks')
}

export function counterPath(folder: string, mutex: number): string {
  return join(folder, `counter-${mutex}`)
}

export function journalPath(folder: string, actor: number): string {
  return join(folder, 'journals', String(actor))
}

/** An acquisition's purpose is its name, so that the owner record of a dead owner tells which one it was. */
export function purposeOf({ actor, number }: Acquisition): string {
  return `${actor}.${number}`
}

function namedIn(purpose: string | undefined): Acquisition | undefined {
  const [, actor, number] = /^(\d+)\.(\d+)$/.exec(purpose ?? '') ?? []
  return actor === undefined ? undefined : { actor: Number(actor), number: Number(number) }
}

/** Notes that a mutex is owned, what the owner was told, and what it found in the counter. */
export function noteOwner(
  journal: Journal,
  { lock, found, ...entry }: { stamp: bigint; mutex: number; number: number; found: Count; lock: MutexLock },
): void {
  const { abandoned, previousOwner } = lock
  const named = namedIn(previousOwner?.purpose)
  const previous = named && { ...named, pid: previousOwner?.pid ?? 0, thread: previousOwner?.threadId ?? 0 }
  journal.write({ kind: 'owns', ...entry, ...found, abandoned, previous })
}

/** How one acquisition is to be done. */
interface Plan {
  readonly how: How
  readonly mutexes: readonly number[]
  readonly timeoutMs: number | undefined
  /** May be aborted; by itself after so long, if not by the conductor. */
  readonly abortAfterMs: number | undefined
  /** How often the event loop turns between reading and writing the counter. */
  readonly turns: number
}

const ways = { acquire: 45, tryAcquire: 10, acquireSync: 10, withLock: 20, acquireAll: 15 } as const

export class Participant {
  readonly #part: Part
  readonly #random: Random
  readonly #journal: Journal
  readonly #mutexes: readonly NamedMutex[]
  readonly #counters: readonly Counter[]
  readonly #aborts = new Set<AbortController>()
  #number = 0
  #isStopping = false
  #dieAt: DeathPoint | undefined

  constructor(part: Part) {
    this.#part = part
    this.#random = new Random(part.seed, part.actor)
    this.#journal = new Journal(journalPath(part.folder, part.actor))
    const directory = lockFolder(part.folder)
    this.#mutexes = part.mutexes.map((name) => new NamedMutex(name, { directory }))
    this.#counters = part.mutexes.map((_, mutex) => new Counter(counterPath(part.folder, mutex)))
    const { actor: number, process: ofProcess } = part
    this.#journal.write({ kind: 'began', stamp: now(), number, process: ofProcess, pid: process.pid, thread: threadId })
  }

  /** Resolves when it was stopped and all that its lanes had begun has ended. */
  async run(): Promise<void> {
    await Promise.all(Array.from({ length: this.#part.lanes }, () => this.#lane()))
    for (const mutex of this.#mutexes) mutex.close()
    for (const counter of this.#counters) counter.close()
    this.#journal.close()
  }

  stop(): void {
    this.#isStopping = true
  }

  abort(): void {
    for (const controller of this.#aborts) controller.abort()
  }

  dieAt(point: DeathPoint): void {
    this.#dieAt = point
  }

  /** Stamped before it is done, as the witness wants it. */
  endThread(actor: number): void {
    this.#journal.write({ kind: 'ends thread', stamp: now(), subject: actor })
  }

  async #lane(): Promise<void> {
    while (!this.#isStopping) {
      await this.#take(this.#plan())
      // Locks that are free are had without a turn of the event loop: orders and other lanes must come in, too.
      if (this.#random.chance(0.25)) await turn()
    }
  }

  #plan(): Plan {
    const random = this.#random
    const how = random.weighted(ways)
    const limit = random.weighted({ none: 60, time: 20, signal: 20 })
    // A thread that has other lanes must not block for good: one of them may hold what the owner waits for.
    const isLimited = limit === 'time' || (how === 'acquireSync' && this.#part.lanes > 1)
    const canAbort = how === 'acquire' || how === 'withLock' || how === 'acquireAll'
    return {
      how,
      mutexes: random.sample([...this.#mutexes.keys()], how === 'acquireAll' ? 2 + random.below(2) : 1),
      timeoutMs: isLimited ? random.below(8) : undefined,
      abortAfterMs: canAbort && limit === 'signal' ? 1 + random.below(8) : undefined,
      turns: Number(random.weighted({ 0: 60, 1: 22, 5: 15, 40: 3 })),
    }
  }

  async #take(plan: Plan): Promise<void> {
    const number = ++this.#number
    for (const mutex of plan.mutexes) this.#note({ kind: 'wants', mutex, number, how: plan.how })
    try {
      const isTaken = !(await this.#acquire(plan, number))
      if (isTaken) this.#noteRefusal(plan, number, 'taken')
    } catch (error) {
      this.#noteRefusal(plan, number, refusalOf(error))
    }
  }

  /** False: `tryAcquire` found it taken. */
  async #acquire(plan: Plan, number: number): Promise<boolean> {
    const [first = 0] = plan.mutexes
    const mutex = this.#mutexes[first] as NamedMutex
    const { timeoutMs } = plan
    const purpose = purposeOf({ actor: this.#part.actor, number })
    const options = { purpose, ...(timeoutMs !== undefined && { timeoutMs }) }
    switch (plan.how) {
      case 'acquire':
        await this.#own(plan, number, [
          await this.#abortable(plan, (signal) => mutex.acquire({ ...options, ...signal })),
        ])
        return true
      case 'tryAcquire': {
        const lock = mutex.tryAcquire({ purpose })
        if (lock !== null) await this.#own(plan, number, [lock])
        return lock !== null
      }
      case 'acquireSync':
        await this.#own(plan, number, [mutex.acquireSync(options)])
        return true
      case 'withLock':
        await this.#abortable(plan, (signal) =>
          mutex.withLock({ ...options, ...signal }, (lock) => this.#work(plan, number, [lock])),
        )
        this.#noteReleased(plan, number)
        return true
      case 'acquireAll': {
        const mutexes = plan.mutexes.map((index) => this.#mutexes[index] as NamedMutex)
        const locks = await this.#abortable(plan, (signal) => acquireAll(mutexes, { ...options, ...signal }))
        await this.#own(plan, number, locks.locks)
        return true
      }
    }
  }

  async #abortable<T>({ abortAfterMs }: Plan, acquire: (options: { signal?: AbortSignal }) => Promise<T>): Promise<T> {
    if (abortAfterMs === undefined) return acquire({})
    const controller = new AbortController()
    this.#aborts.add(controller)
    const timer = setTimeout(() => controller.abort(), abortAfterMs)
    try {
      return await acquire({ signal: controller.signal })
    } finally {
      clearTimeout(timer)
      this.#aborts.delete(controller)
    }
  }

  async #own(plan: Plan, number: number, locks: readonly MutexLock[]): Promise<void> {
    await this.#work(plan, number, locks)
    for (const lock of locks) lock.release()
    this.#noteReleased(plan, number)
  }

  async #work(plan: Plan, number: number, locks: readonly MutexLock[]): Promise<void> {
    const writer = { actor: this.#part.actor, number }
    this.#dieIfDue('acquired')
    const stamp = now()
    const values = plan.mutexes.map((mutex, index) => {
      const found = (this.#counters[mutex] as Counter).read()
      noteOwner(this.#journal, { stamp, mutex, number, found, lock: locks[index] as MutexLock })
      return found.value
    })
    this.#dieIfDue('owning')
    for (let turns = plan.turns; turns > 0; turns--) await turn()
    for (const [index, mutex] of plan.mutexes.entries()) {
      ;(this.#counters[mutex] as Counter).write({ value: (values[index] ?? 0) + 1, writer })
    }
    this.#dieIfDue('updated')
    for (const mutex of plan.mutexes) this.#note({ kind: 'leaves', mutex, number })
    this.#dieIfDue('leaving')
  }

  #noteReleased(plan: Plan, number: number): void {
    this.#dieIfDue('released')
    for (const mutex of plan.mutexes) this.#note({ kind: 'released', mutex, number })
  }

  #noteRefusal(plan: Plan, number: number, refusal: Refusal): void {
    for (const mutex of plan.mutexes) this.#note({ kind: 'refused', mutex, number, refusal })
  }

  #note(entry: Omit<Entry, 'stamp'>): void {
    this.#journal.write({ ...entry, stamp: now() })
  }

  #dieIfDue(point: DeathPoint): void {
    if (this.#dieAt !== point) return
    this.#journal.write({ kind: 'ends process', stamp: now(), subject: this.#part.process })
    process.kill(process.pid, 'SIGKILL')
    // The signal is this process's own: nothing more is run.
    for (;;);
  }
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof MutexError && error.code === 'ERR_MUTEX_TIMEOUT') return 'timeout'
  if (error instanceof MutexError && error.code === 'ERR_MUTEX_DEADLOCK') return 'deadlock'
  if (error instanceof DOMException && error.name === 'AbortError') return 'abort'
  throw error
}

/** The process's main thread: carries out orders for itself and hands the others on. */
class Main {
  readonly #part: Part
  readonly #before = ours()
  readonly #participant: Participant
  readonly #workers: { readonly actor: number; readonly worker: Worker; readonly ended: Promise<unknown> }[] = []

  constructor(part: Part) {
    this.#part = part
    this.#participant = new Participant(part)
    for (const [index, actor] of part.workers.entries()) this.#startWorker(index, actor)
    process.on('message', (order: Order) => void this.#obey(order))
    process.once('disconnect', () => process.exit())
    tell({ is: 'ready' })
    void this.#run()
  }

  #startWorker(index: number, actor: number): void {
    const part: Part = { ...this.#part, actor, lanes: 1, workers: [] }
    const worker = new Worker(new URL(import.meta.url), { workerData: part })
    const ended = new Promise((resolve) => worker.once('exit', resolve))
    worker.on('message', (tidings: Tidings) => tell(tidings))
    this.#workers[index] = { actor, worker, ended }
  }

  async #obey(order: Order): Promise<void> {
    if (order.do === 'stop') {
      this.#participant.stop()
      for (const { worker } of this.#workers) worker.postMessage(order)
      return
    }
    const target = order.worker === undefined ? undefined : this.#workers[order.worker]
    if (order.do === 'terminate') {
      if (target === undefined) return
      this.#participant.endThread(target.actor)
      await target.worker.terminate()
      this.#startWorker(order.worker, order.successor)
      tell({ is: 'terminated' })
    } else if (target !== undefined) {
      target.worker.postMessage(order)
    } else {
      perform(this.#participant, order)
    }
  }

  async #run(): Promise<void> {
    await this.#participant.run()
    await Promise.all(this.#workers.map(({ ended }) => ended))
    // A worker's last descriptors go a moment after its 'exit'.
    await until('the threads have ended', () => !hasMore(ours(), this.#before)).catch(() => {})
    tell({ is: 'stopped', before: this.#before, after: ours(), open: openFiles() })
  }
}

/**
 * What this process has, where that can be counted. Not of it: modules that a worker thread was just importing when it was terminated,
 * which Node 20 leaves open.
 */
function ours(): Resources {
  if ('skip' in ifCountable) return { handles: 0, threads: 0 }
  const { handles, threads } = resources()
  return { handles: handles - openFiles().filter((name) => name.endsWith('.js')).length, threads }
}

/** The files among the handles, as far as they have names. */
function openFiles(): string[] {
  if (process.platform !== 'linux') return []
  const nameOf = (descriptor: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`)
    } catch {
      return '' // the one by which the folder was read
    }
  }
  return readdirSync('/proc/self/fd')
    .map(nameOf)
    .filter((name) => name.startsWith('/'))
}

export function hasMore(after: Resources, before: Resources): boolean {
  return after.handles > before.handles || after.threads > before.threads
}

function perform(participant: Participant, order: Order): void {
  if (order.do === 'abort') participant.abort()
  else if (order.do === 'die') participant.dieAt(order.at)
  else if (order.do === 'stop') participant.stop()
}

function tell(tidings: Tidings): void {
  if (isMainThread) process.send?.(tidings)
  else parentPort?.postMessage(tidings)
}

const asProcess = 'storm-participant'

/** What a child process has to be given to take part. */
export function processArguments(part: Part): string[] {
  return [asProcess, JSON.stringify(part)]
}

if (!isMainThread) {
  const participant = new Participant(workerData as Part)
  parentPort?.on('message', (order: Order) => perform(participant, order))
  await participant.run()
  parentPort?.close()
} else if (process.argv[2] === asProcess) {
  new Main(JSON.parse(process.argv[3] ?? '') as Part)
}
