// A Node process of its own that downloads one file, or idles beside. This is the parent's side; the child is node-downloader-child.ts.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { tied } from './children.ts'

export type NodeParty = 'gate' | 'node-llama-cpp' | '@huggingface/hub' | 'idle'

/** Where clients run. */
export interface Place {
  /** Words that start a program there. Default: none. */
  readonly words?: readonly string[]
  /** A certificate to trust, in a file. */
  readonly certificate?: string
}

export interface NodeJob {
  readonly party: NodeParty
  /** The file; for the hub's client the hub. */
  readonly url: string
  /** An empty folder. */
  readonly folder: string
  /** Of the gate. Default: its own. */
  readonly connections?: number
  /** Default: here. */
  readonly place?: Place
  /** Measure how late the event loop is, which costs a timer a millisecond. */
  readonly watchEventLoop?: boolean
}

export interface NodeResult {
  /** From the call to its promise's resolution. */
  readonly callMs: number
  /** Processor time of that call, of all threads and in the kernel too. */
  readonly cpuMs: number
  /** How much more memory the process had at its worst than before the call, when its modules were there already. */
  readonly peakRssBytes: number
  /** The longest time between two turns of a timer of 1 ms; 0 where nobody wanted to know. */
  readonly longestStallMs: number
  /** Of the file, where the party tells it. */
  readonly sha256?: string | undefined
  /** Another process fetched it meanwhile. */
  readonly waited: boolean
}

/** Up. `begun`: bytes come in. */
export type ChildMessage =
  | { readonly is: 'ready' | 'begun' }
  | { readonly is: 'done'; readonly result: NodeResult }
  | { readonly is: 'failed'; readonly message: string }

/** Down. `stop` ends the idle one. */
export type ParentMessage = 'go' | 'stop'

export class NodeDownloader implements Disposable {
  readonly #child: ChildProcess
  readonly #party: NodeParty
  readonly #exited: Promise<unknown>
  readonly #messages: ChildMessage[] = []

  private constructor(job: NodeJob) {
    this.#party = job.party
    const program = fileURLToPath(new URL('node-downloader-child.js', import.meta.url))
    const { words = [], certificate } = job.place ?? {}
    const [execPath = process.execPath, ...execArgv] = [...words, process.execPath]
    const env = certificate === undefined ? process.env : { ...process.env, NODE_EXTRA_CA_CERTS: certificate }
    // The hub's client writes to stdout.
    const stdio = ['ignore' as const, 'ignore' as const, 'inherit' as const, 'ipc' as const]
    this.#child = tied(fork(program, [JSON.stringify(job)], { stdio, execPath, execArgv, env }))
    this.#child.on('message', (message: ChildMessage) => this.#messages.push(message))
    this.#exited = once(this.#child, 'exit')
  }

  /** Resolves when the process has imported what it needs. */
  static async start(job: NodeJob): Promise<NodeDownloader> {
    const downloader = new NodeDownloader(job)
    try {
      await downloader.#seen('ready')
    } catch (error) {
      downloader[Symbol.dispose]()
      throw error
    }
    return downloader
  }

  send(message: ParentMessage): void {
    this.#child.send(message)
  }

  async begun(): Promise<void> {
    await this.#seen('begun')
  }

  /** The process stays until `end`. */
  async done(): Promise<NodeResult> {
    return (await this.#seen('done')).result
  }

  /** Resolves when the process has ended, which it does by itself. */
  async end(): Promise<void> {
    this.#child.disconnect()
    await this.#exited
  }

  /** Ends it by force, unless it has ended. */
  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL')
  }

  async #seen<Kind extends ChildMessage['is']>(is: Kind): Promise<Extract<ChildMessage, { is: Kind }>> {
    for (;;) {
      const failure = this.#messages.find((message) => message.is === 'failed')
      if (failure) throw new Error(`${this.#party}: ${failure.message}`)
      const message = this.#messages.find((message) => message.is === is)
      if (message) return message as Extract<ChildMessage, { is: Kind }>
      if (this.#child.exitCode !== null || this.#child.signalCode !== null)
        throw new Error(`${this.#party} ended early`)
      await Promise.race([once(this.#child, 'message'), this.#exited])
    }
  }
}
