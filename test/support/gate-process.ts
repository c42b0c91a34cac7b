// Starts real processes that use a gate, and lets a test wait for what happens in them.
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { LlamaOptions } from 'node-llama-cpp'
import type { OwnerInfo } from 'os-mutex'
import type {
  EnsureModelOptions,
  GateEvent,
  LlamaModelGateOptions,
  LoadModelOptions,
  LoadOptions,
  ModelProgress,
  ModelSource,
  PublishedModel,
} from 'os-mutex/llama'
import { type ChildEnding, endingOf, sendTo } from './child.ts'
import { startedBy } from './containers.ts'
import { thaw } from './gate-freeze.ts'
import type { ProcessOptions } from './party.ts'
import { started } from './start.ts'

/** `load`: the file's lock is held and llama.cpp is about to be called. `load-progress`: it is reading. */
export type LoadStage = 'load' | 'load-progress'

export type ChildRequest = { readonly id: number } & (
  | { readonly do: 'ensureModel'; readonly source: ModelSource; readonly options: EnsureModelOptions }
  | { readonly do: 'loadModel'; readonly options: LoadModelOptions; readonly freezeAt: LoadStage | undefined }
  | {
      readonly do: 'load'
      readonly source: ModelSource
      readonly options: LoadOptions
      readonly freezeAt: LoadStage | undefined
    }
  | { readonly do: 'getLlama'; readonly options: LlamaOptions }
  | { readonly do: 'abort' }
  | { readonly do: 'freeze' }
)

export type ChildMessage = { readonly id: number } & (
  | { readonly is: 'ready' | 'frozen' }
  | { readonly is: 'progress'; readonly progress: ModelProgress }
  | { readonly is: 'wait'; readonly owner: OwnerInfo | undefined }
  | { readonly is: 'load-progress'; readonly fraction: number }
  /** `atMs` is of the machine's monotonic clock: stamps of different processes can be compared. */
  | { readonly is: 'load'; readonly event: GateEvent; readonly atMs: number }
  | { readonly is: 'done'; readonly result: unknown }
  | { readonly is: 'failed'; readonly error: RemoteFailure }
)

interface RemoteFailure {
  readonly name: string
  readonly message: string
  readonly code?: unknown
  readonly path?: unknown
  readonly reason?: unknown
  readonly owner?: unknown
}

/** One call of the gate in a child. */
export class RemoteCall<T> {
  readonly result: Promise<T>
  readonly #child: GateProcess
  readonly #id: number

  constructor(child: GateProcess, id: number) {
    this.#child = child
    this.#id = id
    this.result = this.seen((message) => message.is === 'done' || message.is === 'failed').then((message) => {
      if (message.is === 'failed') throw Object.assign(new Error(message.error.message), message.error)
      return (message as { result: unknown }).result as T
    })
    this.result.catch(() => {})
  }

  /** The call's messages so far. */
  get messages(): ChildMessage[] {
    return this.#child.messages.filter((message) => message.id === this.#id)
  }

  get progress(): ModelProgress[] {
    return this.messages.flatMap((message) => (message.is === 'progress' ? [message.progress] : []))
  }

  /** The first message of this call that fits, also one that came before. */
  seen(fits: (message: ChildMessage) => boolean): Promise<ChildMessage> {
    return this.#child.seen((message) => message.id === this.#id && fits(message))
  }

  seenProgress(fits: (progress: ModelProgress) => boolean): Promise<ChildMessage> {
    return this.seen((message) => message.is === 'progress' && fits(message.progress))
  }

  /** Does nothing when the child has ended. */
  abort(): void {
    this.#child.send({ id: this.#id, do: 'abort' })
  }
}

interface Watcher {
  readonly fits: (message: ChildMessage) => boolean
  readonly resolve: (message: ChildMessage) => void
  readonly reject: (error: Error) => void
}

export class GateProcess implements AsyncDisposable {
  readonly messages: ChildMessage[] = []
  /** Resolves with how the process ended. */
  readonly ended: Promise<ChildEnding>
  readonly #process: ChildProcess
  readonly #isElsewhere: boolean
  readonly #watchers = new Set<Watcher>()
  #ending: ChildEnding | undefined
  #calls = 0

  private constructor(options: LlamaModelGateOptions, environment: NodeJS.ProcessEnv, place: ProcessOptions) {
    const program = fileURLToPath(new URL('./gate-child.js', import.meta.url))
    const env = { ...process.env, ...environment }
    const { execPath = process.execPath, execArgv = process.execArgv } = place
    this.#isElsewhere = place.execPath !== undefined
    const how = { serialization: 'advanced' as const, env, execPath, execArgv: [...execArgv] }
    this.#process = started(() => fork(program, [JSON.stringify(options)], how))
    this.#process.on('message', (message: ChildMessage) => {
      this.messages.push(message)
      for (const watcher of this.#watchers)
        if (watcher.fits(message)) this.#settle(watcher, () => watcher.resolve(message))
    })
    this.ended = endingOf(this.#process).then((ending) => {
      this.#ending = ending
      const error = this.#endError(ending)
      for (const watcher of this.#watchers) this.#settle(watcher, () => watcher.reject(error))
      return ending
    })
  }

  /** By default it runs here; `Container.node()` says how to start it elsewhere. */
  static async start(
    options: LlamaModelGateOptions,
    environment: NodeJS.ProcessEnv = {},
    place: ProcessOptions = {},
  ): Promise<GateProcess> {
    const child = GateProcess.begin(options, environment, place)
    await child.ready()
    return child
  }

  /** For a caller that has to be able to end a process that does not become ready. */
  static begin(
    options: LlamaModelGateOptions,
    environment: NodeJS.ProcessEnv = {},
    place: ProcessOptions = {},
  ): GateProcess {
    return new GateProcess(options, environment, place)
  }

  async ready(): Promise<void> {
    await this.seen((message) => message.is === 'ready')
  }

  get pid(): number {
    const { pid = 0 } = this.#process
    return this.#isElsewhere && this.#ending === undefined ? startedBy(pid) : pid
  }

  ensureModel(source: ModelSource, options: EnsureModelOptions = {}): RemoteCall<PublishedModel> {
    return this.#call((id) => ({ id, do: 'ensureModel', source, options }))
  }

  /** The process freezes itself at `freezeAt` (see `frozen`): from outside one comes too late for a small model. */
  loadModel(options: LoadModelOptions, freezeAt?: LoadStage): RemoteCall<{ tokens: number }> {
    return this.#call((id) => ({ id, do: 'loadModel', options, freezeAt }))
  }

  load(source: ModelSource, options: LoadOptions = {}, freezeAt?: LoadStage): RemoteCall<{ tokens: number }> {
    return this.#call((id) => ({ id, do: 'load', source, options, freezeAt }))
  }

  getLlama(options: LlamaOptions): RemoteCall<{ gpu: unknown }> {
    return this.#call((id) => ({ id, do: 'getLlama', options }))
  }

  /** When each load of this process began and ended, both while its lock was held. */
  get loads(): { fromMs: number; toMs: number; abandoned: boolean }[] {
    const events = this.messages.flatMap((message) => (message.is === 'load' ? [message] : []))
    return events.flatMap(({ event, atMs }, index) => {
      if (event.event !== 'start') return []
      return [{ fromMs: atMs, toMs: events[index + 1]?.atMs ?? Infinity, abandoned: event.abandoned }]
    })
  }

  /** A child that has ended gets nothing: whoever waits for its answer is told of its end. */
  send(request: ChildRequest): void {
    sendTo(this.#process, request)
  }

  seen(fits: (message: ChildMessage) => boolean): Promise<ChildMessage> {
    const past = this.messages.find(fits)
    if (past !== undefined) return Promise.resolve(past)
    if (this.#ending !== undefined) return Promise.reject(this.#endError(this.#ending))
    return new Promise((resolve, reject) => {
      this.#watchers.add({ fits, resolve, reject })
    })
  }

  /** Resolves when the process stands still. */
  async freeze(): Promise<void> {
    this.send({ id: 0, do: 'freeze' })
    await this.frozen()
  }

  async frozen(): Promise<void> {
    await this.seen((message) => message.is === 'frozen')
  }

  thaw(): void {
    thaw(this.pid)
  }

  /** SIGKILL: nothing in the child gets a chance to clean up. */
  async kill(): Promise<void> {
    if (this.#ending !== undefined) return
    const { pid } = this
    // What stands between, in a container, ends with it.
    if (pid === this.#process.pid) this.#process.kill('SIGKILL')
    else process.kill(pid, 'SIGKILL')
    await this.ended
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }

  #endError(ending: ChildEnding): Error {
    return new Error(`The child ended (${ending})`)
  }

  #call<T>(request: (id: number) => ChildRequest): RemoteCall<T> {
    this.#calls++
    this.send(request(this.#calls))
    return new RemoteCall<T>(this, this.#calls)
  }

  #settle(watcher: Watcher, settle: () => void): void {
    this.#watchers.delete(watcher)
    settle()
  }
}
