// The parent's side of a party: it never waits for an answer without a limit, and no party outlives it.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Peer } from '../peers/peer.ts'

// V8's collection of an idle process would fall into one of two spans that are compared, by chance.
const NODE_FLAGS = ['--expose-gc', '--no-memory-reducer']

/** Many start at once. */
const START_LIMIT_MS = 60_000

const running = new Set<ChildProcess>()
// SIGKILL: an owner whose event loop is blocked, or a package that handles the other signals, would stay.
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL')
})

/** The measurement can't be had: `message` stands in its cell. */
export class Unmeasured extends Error {}

export class Party implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #exited: Promise<unknown>
  #complaint = ''

  private constructor(peer: Peer, folder: string, name: string) {
    const [command, ...args] =
      peer.program === undefined
        ? [
            process.execPath,
            ...NODE_FLAGS,
            fileURLToPath(new URL('peer-party.js', import.meta.url)),
            peer.name,
            folder,
            name,
          ]
        : [path.join(folder, `../${peer.program}`), peer.file(folder, name), folder]
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    running.add(child)
    this.#child = child
    this.#exited = once(child, 'exit').then(() => running.delete(child))
    // An order to one that has ended is answered by its end.
    child.stdin.on('error', () => {})
    child.stderr.on('data', (text) => {
      this.#complaint += text
    })
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  }

  static async start(peer: Peer, folder: string, name: string): Promise<Party> {
    const party = new Party(peer, folder, name)
    try {
      await party.next(START_LIMIT_MS)
    } catch (error) {
      await party.kill()
      throw error
    }
    return party
  }

  static async startAll(count: number, peer: Peer, folder: string, name: string): Promise<Party[]> {
    const starts = await Promise.allSettled(Array.from({ length: count }, () => Party.start(peer, folder, name)))
    const parties = starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []))
    const failure = starts.find((start) => start.status === 'rejected')
    if (failure === undefined) return parties
    await killAll(parties)
    throw failure.reason
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  send(...words: readonly (number | string)[]): void {
    this.#child.stdin?.write(`${words.join(' ')}\n`)
  }

  async next(limitMs: number): Promise<string> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<'late'>((resolve) => {
      timer = setTimeout(resolve, limitMs, 'late')
    })
    const line = await Promise.race([this.#lines.next(), late])
    clearTimeout(timer)
    if (line === 'late') throw new Unmeasured(`not within ${limitMs / 1000} s`)
    if (!line.done) return line.value
    await this.#exited
    const [reason] = /\w*Error: [^,\]\n]*/.exec(this.#complaint) ?? ['ended early']
    throw new Unmeasured(reason)
  }

  async ask(limitMs: number, ...words: readonly (number | string)[]): Promise<string> {
    this.send(...words)
    return this.next(limitMs)
  }

  /** Ends it by SIGKILL; gives the monotonic time just before, in ns. */
  async kill(): Promise<number> {
    const at = Number(process.hrtime.bigint())
    this.#child.kill('SIGKILL')
    await this.#exited
    return at
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }
}

export async function killAll(parties: readonly Party[]): Promise<void> {
  await Promise.all(parties.map((party) => party.kill()))
}
