// A process that downloads and may be stopped or killed at any moment, or has its clock moved. Both sides are here: the parent
// starts it with `FaultProcess.start`; as the main module it is the child.
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { DownloadPhase } from '#download/progress'
import { type ChildEnding, endingOf, sendTo } from './child.ts'
import { startedBy } from './containers.ts'
import { downloadFile, ModelDownloadError, type ModelSource, resolveSource } from './download-internals.ts'
import type { Ending } from './faults.ts'
import type { ProcessOptions } from './party.ts'
import { started } from './start.ts'

export interface FaultJob {
  readonly source: ModelSource
  readonly destination: string
  readonly connections?: number | undefined
  readonly headersTimeoutMs?: number
  readonly bodyTimeoutMs?: number
  readonly retryDelaysMs?: readonly number[] | undefined
  /** SIGKILLs itself as soon as it is told that this phase begins. */
  readonly killAt?: DownloadPhase
}

type Request = FaultJob | { readonly clockJumpMs: number }

type Message =
  | { readonly is: 'ready' | 'jumped' }
  | { readonly is: 'done'; readonly model: { path: string; bytes: number; sha256?: string } }
  | { readonly is: 'failed'; readonly isOurs: boolean; readonly code: string; readonly message: string }

const asChild = 'fault-process-child'

export class FaultProcess {
  readonly #child: ChildProcess
  /** In a container: a program stands between, which ends and stops with it. */
  readonly #isElsewhere: boolean
  readonly #ended: Promise<ChildEnding>
  readonly #messages: Message[] = []
  readonly #watchers = new Set<() => void>()
  #isGone = false

  private constructor(child: ChildProcess, isElsewhere: boolean) {
    this.#child = child
    this.#isElsewhere = isElsewhere
    this.#ended = endingOf(child).then((ending) => {
      this.#isGone = true
      for (const watcher of this.#watchers) watcher()
      return ending
    })
    child.on('message', (message: Message) => {
      this.#messages.push(message)
      for (const watcher of this.#watchers) watcher()
    })
  }

  /** Resolves when all is imported, so that a job begins at once. By default it runs here; `Container.node()` says how to start it elsewhere. */
  static async start(place: ProcessOptions = {}): Promise<FaultProcess> {
    const stdio = ['ignore' as const, 'inherit' as const, 'inherit' as const, 'ipc' as const]
    const { execPath = process.execPath, execArgv = process.execArgv, env } = place
    const options = { stdio, execPath, execArgv: [...execArgv], ...(env && { env }) }
    const child = new FaultProcess(
      started(() => fork(fileURLToPath(import.meta.url), [asChild], options)),
      place.execPath !== undefined,
    )
    if ((await child.#seen(({ is }) => is === 'ready')) === undefined)
      throw new Error(`The process ended before its first word (${await child.#ended})`)
    return child
  }

  /** One job in a process's life. Resolves with `undefined` when the process ends before its download does. */
  async run(job: FaultJob): Promise<Ending | undefined> {
    this.#send(job)
    const end = await this.#seen(({ is }) => is === 'done' || is === 'failed')
    if (end?.is === 'done') return { model: end.model }
    if (end?.is !== 'failed') return undefined
    const { code, message, isOurs } = end
    const error = isOurs ? new ModelDownloadError(code as ModelDownloadError['code'], message) : new Error(message)
    return { error }
  }

  /** Moves the process's wall clock by so much. Resolves when that is done. */
  async moveClock(clockJumpMs: number): Promise<void> {
    this.#send({ clockJumpMs })
    if ((await this.#seen(({ is }) => is === 'jumped')) === undefined)
      throw new Error(`The process ended before its clock was moved (${await this.#ended})`)
  }

  stop(): void {
    this.#signal('SIGSTOP')
  }

  goOn(): void {
    this.#signal('SIGCONT')
  }

  /** SIGKILL; resolves when the process is gone. Whether it has ended or not. */
  async kill(): Promise<void> {
    this.#signal('SIGKILL')
    await this.#ended
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid = 0 } = this.#child
    if (this.#isGone) return
    if (this.#isElsewhere) signalTo(startedBy(pid), signal)
    if (!this.#isElsewhere || signal === 'SIGCONT') this.#child.kill(signal)
  }

  #send(request: Request): void {
    sendTo(this.#child, request)
  }

  async #seen(fits: (message: Message) => boolean): Promise<Message | undefined> {
    for (;;) {
      const message = this.#messages.find(fits)
      if (message !== undefined || this.#isGone) return message
      await new Promise<void>((resolve) => {
        const watcher = () => {
          this.#watchers.delete(watcher)
          resolve()
        }
        this.#watchers.add(watcher)
      })
    }
  }
}

/** One that has ended with its container is as good: the news of that is on its way. */
function signalTo(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

if (process.argv[2] === asChild) {
  const tell = (message: Message) => void process.send?.(message)
  process.once('disconnect', () => process.exit())
  process.on('message', (request: Request) => {
    if ('source' in request) return void download(request)
    const now = Date.now
    Date.now = () => now() + request.clockJumpMs
    tell({ is: 'jumped' })
  })
  tell({ is: 'ready' })

  const download = async ({ source, killAt, ...options }: FaultJob) => {
    const onProgress = ({ phase }: { phase: DownloadPhase }) => {
      if (phase === killAt) process.kill(process.pid, 'SIGKILL')
    }
    try {
      tell({ is: 'done', model: await downloadFile({ ...options, source: resolveSource(source), onProgress }) })
    } catch (error) {
      const code = error instanceof ModelDownloadError ? error.code : ''
      tell({ is: 'failed', isOurs: code !== '', code, message: String((error as Error).message) })
    }
  }
}
