// A child process that answers lines with lines.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

export class LineProcess {
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string>

  constructor(command: string, args: readonly string[]) {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#child = child
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  send(line: string): void {
    this.#child.stdin?.write(`${line}\n`)
  }

  async next(): Promise<string> {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`${this.#child.spawnfile} ended early`)
    return value
  }

  async ask(line: string): Promise<string> {
    this.send(line)
    return this.next()
  }

  /** Ends it; gives the monotonic time just before, in ns. */
  async kill(): Promise<bigint> {
    const gone = once(this.#child, 'exit')
    const at = process.hrtime.bigint()
    this.#child.kill('SIGKILL')
    await gone
    return at
  }
}
