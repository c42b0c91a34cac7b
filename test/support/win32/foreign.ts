// Starts foreign.exe (foreign.c), which uses and examines kernel objects as a program that knows nothing of this package.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { started } from '../start.ts'
import { until } from '../until.ts'

/** Options of a test that is about Windows alone. */
export const onWindows = process.platform === 'win32' ? {} : { skip: 'Windows only' }

/** Its path. */
export const foreignExe = fileURLToPath(new URL('./foreign.exe', import.meta.url))

const compile =
  'x86_64-w64-mingw32-gcc -std=c11 -O2 -s -Wall -Wextra -Werror -municode -static test/support/win32/foreign.c ' +
  '-o out/test/support/win32/foreign.exe -ladvapi32'

if (process.platform === 'win32' && !existsSync(foreignExe)) {
  throw new Error(`${foreignExe} is missing. Compile it in the root of the checkout by: ${compile}`)
}

/** The answer to a command that ends by itself. Blocks the thread meanwhile. */
export function askForeign(command: string, ...args: readonly string[]): string {
  return started(() => execFileSync(foreignExe, [command, ...args], { encoding: 'utf8' })).trim()
}

/** All threads of a process, those of this addon's, and its handles. */
export function countsOf(pid: number): {
  readonly threads: number
  readonly ownerThreads: number
  readonly handles: number
} {
  const [threads = 0, ownerThreads = 0, handles = 0] = askForeign('counts', String(pid)).split(' ').map(Number)
  return { threads, ownerThreads, handles }
}

/** A running foreign.exe. */
export class Foreign implements AsyncDisposable {
  readonly #process: ChildProcess
  #output = ''

  constructor(command: string, ...args: readonly string[]) {
    this.#process = started(() => spawn(foreignExe, [command, ...args], { stdio: ['pipe', 'pipe', 'inherit'] }))
    this.#process.stdout?.on('data', (chunk) => {
      this.#output += chunk
    })
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  has(said: string): boolean {
    return this.#output.split(/\r?\n/).includes(said)
  }

  /** Resolves when it has said this line. */
  async says(line: string): Promise<void> {
    await until(`foreign.exe says "${line}"`, () => {
      if (this.has(line)) return true
      if (this.#output.includes('failed') || this.#process.exitCode !== null) throw new Error(`It said ${this.#output}`)
      return false
    })
  }

  /** Lets it do the rest of its work, and waits for its end. */
  async letGo(): Promise<void> {
    this.#process.stdin?.end()
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, 'exit')
  }

  async kill(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    this.#process.kill('SIGKILL')
    await once(this.#process, 'exit')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }
}
