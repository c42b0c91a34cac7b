// Somebody else who uses mutexes: a child process or a worker thread, steered from a test by handshakes. What a party does
// when it is told is in party-main.ts.
import { type ChildProcess, fork } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import type { MutexState, OwnerInfo, ReportedProgress } from 'os-mutex'
import { type ChildEnding, endingOf, sendTo } from './child.ts'
import type { Scope } from './party-main.ts'
import { started } from './start.ts'
import { until } from './until.ts'
import { askForeign } from './win32/foreign.ts'

export interface PartyAcquireOptions {
  readonly timeoutMs?: number
  readonly purpose?: string
  readonly detectDeadlock?: boolean
  /** Blocks the party's thread. */
  readonly sync?: boolean
}

export type PartyRequest = { readonly id: number } & (
  | { readonly do: 'acquire'; readonly name: string; readonly options: PartyAcquireOptions }
  | { readonly do: 'try'; readonly name: string; readonly purpose?: string }
  | { readonly do: 'query'; readonly name: string }
  | { readonly do: 'run'; readonly body: string; readonly args: readonly unknown[] }
  /** These speak of the acquire with the id `of`. */
  | { readonly do: 'abort' | 'release'; readonly of: number }
  | { readonly do: 'report'; readonly of: number; readonly progress: ReportedProgress }
)

export interface Acquired {
  readonly abandoned: boolean
  readonly previousOwner?: OwnerInfo
  readonly waitedMs: number
}

export type PartyMessage =
  | { readonly is: 'ready' }
  | { readonly is: 'waiting'; readonly id: number; readonly owner: OwnerInfo | undefined }
  | { readonly is: 'told'; readonly what: unknown }
  | { readonly is: 'done'; readonly id: number; readonly result: unknown }
  | { readonly is: 'failed'; readonly id: number; readonly error: { readonly message: string } }

/** How a party ended: its exit code, or the signal that killed it. */
export type Ending = ChildEnding

interface Asked {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
  readonly waiting?: (owner: OwnerInfo | undefined) => void
}

export interface PartyLock extends Acquired {
  /** Resolves once the party has released it. */
  release(): Promise<void>
  report(progress: ReportedProgress): Promise<void>
}

export interface PartyAcquire {
  /** Rejects with what the acquire failed with, or when the party ends first. */
  readonly lock: Promise<PartyLock>
  /** The acquire found the mutex taken; gives who held it. */
  readonly waiting: Promise<OwnerInfo | undefined>
  abort(): Promise<void>
}

export interface ProcessOptions {
  /** What starts Node, with `execArgv` as the first words after it. Default: Node itself. */
  readonly execPath?: string
  readonly execArgv?: readonly string[]
  readonly uid?: number
  readonly env?: NodeJS.ProcessEnv
}

type Transport =
  | { readonly kind: 'process'; readonly process: ChildProcess }
  | { readonly kind: 'thread'; readonly worker: Worker }

const program = new URL('./party-main.js', import.meta.url)

function standsStill(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) =>
    / T \d/.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1')),
  )
}

export class Party {
  /** The process that it is in. */
  readonly pid: number
  readonly ended: Promise<Ending>
  /** What it printed as warnings or uncaught errors. */
  stderr = ''

  readonly #transport: Transport
  readonly #asked = new Map<number, Asked>()
  readonly #told: unknown[] = []
  #hear: (() => void) | undefined
  #ids = 0
  #isOver = false

  private constructor(transport: Transport) {
    this.#transport = transport
    const source = transport.kind === 'process' ? transport.process : transport.worker
    this.pid = (transport.kind === 'process' ? transport.process.pid : process.pid) ?? 0
    source.on('message', (message: PartyMessage) => this.#receive(message))
    source.stderr?.on('data', (chunk) => {
      this.stderr += chunk
    })
    this.ended = (transport.kind === 'process' ? endingOf(transport.process) : this.#endingOf(transport.worker)).then(
      (ending) => {
        this.#isOver = true
        for (const { reject } of this.#asked.values()) reject(new Error(`The party ended (${ending}) ${this.stderr}`))
        return ending
      },
    )
  }

  /** `directory`: of the mutexes; '' is the default lock home. */
  static async process(directory: string, options: ProcessOptions): Promise<Party> {
    const { execPath = process.execPath, execArgv = process.execArgv, uid, env = process.env } = options
    const child = started(() =>
      fork(fileURLToPath(program), [directory], {
        execPath,
        execArgv: [...execArgv],
        env,
        serialization: 'advanced',
        stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
        ...(uid === undefined ? {} : { uid, gid: uid }),
      }),
    )
    return Party.#ready(new Party({ kind: 'process', process: child }))
  }

  static async thread(directory: string): Promise<Party> {
    const worker = new Worker(program, { argv: [directory], stderr: true })
    return Party.#ready(new Party({ kind: 'thread', worker }))
  }

  static async #ready(party: Party): Promise<Party> {
    await new Promise<unknown>((resolve, reject) => party.#asked.set(0, { resolve, reject }))
    return party
  }

  #endingOf(worker: Worker): Promise<Ending> {
    // Its uncaught exception; a process prints its own.
    worker.on('error', (error) => {
      this.stderr += error instanceof Error ? error.stack : String(error)
    })
    return new Promise((resolve) => worker.once('exit', resolve))
  }

  acquire(name: string, options: PartyAcquireOptions = {}): PartyAcquire {
    let waiting: (owner: OwnerInfo | undefined) => void = () => {}
    const begun = new Promise<OwnerInfo | undefined>((resolve) => {
      waiting = resolve
    })
    const id = this.#nextId()
    const lock = this.#ask<Acquired>({ id, do: 'acquire', name, options }, waiting).then((acquired) =>
      this.#lock(id, acquired),
    )
    lock.catch(() => {})
    return { lock, waiting: begun, abort: () => this.#ask({ id: this.#nextId(), do: 'abort', of: id }) }
  }

  async tryAcquire(name: string, purpose?: string): Promise<PartyLock | null> {
    const id = this.#nextId()
    const acquired = await this.#ask<Acquired | null>({
      id,
      do: 'try',
      name,
      ...(purpose === undefined ? {} : { purpose }),
    })
    return acquired === null ? null : this.#lock(id, acquired)
  }

  query(name: string): Promise<MutexState> {
    return this.#ask({ id: this.#nextId(), do: 'query', name })
  }

  /** Runs `body` over there. It sees its arguments and nothing else of the test's. */
  run<A extends unknown[], R>(body: (scope: Scope, ...args: A) => R, ...args: A): Promise<Awaited<R>> {
    return this.#ask({ id: this.#nextId(), do: 'run', body: String(body), args })
  }

  /** The next thing that a `run` body told by `scope.tell`. */
  async told(): Promise<unknown> {
    while (this.#told.length === 0) {
      if (this.#isOver) throw new Error(`The party has ended ${this.stderr}`)
      await Promise.race([this.ended, new Promise<void>((resolve) => (this.#hear = resolve))])
    }
    return this.#told.shift()
  }

  /** Ends it with no chance to clean up: SIGKILL, or `worker.terminate()`. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<Ending> {
    if (!this.#isOver) {
      if (this.#transport.kind === 'thread') await this.#transport.worker.terminate()
      else this.#transport.process.kill(signal)
    }
    return this.ended
  }

  /** SIGSTOP and its like: every thread of the process stands still, in the middle of whatever it does. */
  async freeze(): Promise<void> {
    if (this.#transport.kind !== 'process') throw new Error('Only a process can be frozen')
    if (process.platform === 'win32') askForeign('freeze', String(this.pid))
    else this.#transport.process.kill('SIGSTOP')
    // Each thread stops on its way back from the kernel, some later than others.
    if (process.platform === 'linux') await until(`${this.pid} stands still`, () => standsStill(this.pid))
  }

  thaw(): void {
    if (process.platform === 'win32') askForeign('thaw', String(this.pid))
    else if (this.#transport.kind === 'process') this.#transport.process.kill('SIGCONT')
  }

  #nextId(): number {
    this.#ids++
    return this.#ids
  }

  #lock(id: number, acquired: Acquired): PartyLock {
    return {
      ...acquired,
      release: () => this.#ask({ id: this.#nextId(), do: 'release', of: id }),
      report: (progress) => this.#ask({ id: this.#nextId(), do: 'report', of: id, progress }),
    }
  }

  #ask<T>(request: PartyRequest, waiting?: (owner: OwnerInfo | undefined) => void): Promise<T> {
    if (this.#isOver) return Promise.reject(new Error(`The party has ended ${this.stderr}`))
    return new Promise<T>((resolve, reject) => {
      this.#asked.set(request.id, {
        resolve: (result) => resolve(result as T),
        reject,
        ...(waiting === undefined ? {} : { waiting }),
      })
      if (this.#transport.kind === 'process') sendTo(this.#transport.process, request, reject)
      else this.#transport.worker.postMessage(request)
    })
  }

  #receive(message: PartyMessage): void {
    if (message.is === 'told') {
      this.#told.push(message.what)
      this.#hear?.()
      return
    }
    const id = message.is === 'ready' ? 0 : message.id
    const asked = this.#asked.get(id)
    if (message.is === 'waiting') {
      asked?.waiting?.(message.owner)
      return
    }
    this.#asked.delete(id)
    if (message.is === 'failed') asked?.reject(Object.assign(new Error(message.error.message), message.error))
    else asked?.resolve(message.is === 'ready' ? undefined : message.result)
  }
}
