// A process of the crash storm, as the conductor sees it.
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type ChildEnding, endingOf, sendTo } from '../support/child.ts'
import { started } from '../support/start.ts'
import { type Order, type Part, processArguments, type Tidings } from './participant.ts'

type TidingsOf<K extends Tidings['is']> = Tidings & { readonly is: K }

interface Waiting {
  readonly resolve: (tidings: Tidings) => void
  readonly reject: (error: Error) => void
}

export class Member {
  readonly number: number
  readonly ended: Promise<void>
  isToDie = false
  readonly #child: ChildProcess
  readonly #waiting = new Map<string, Waiting>()
  #ending: ChildEnding | undefined

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
    this.ended = endingOf(this.#child).then((ending) => {
      this.#ending = ending
      for (const { reject } of this.#waiting.values()) reject(this.#endError(ending))
    })
  }

  /** Throws when it has ended in another way than by a kill that was ordered. */
  throwIfAstray(): void {
    const ending = this.#ending
    // Windows gives the exit code of whoever has ended a process.
    const isKilled = this.isToDie && (ending === 'SIGKILL' || process.platform === 'win32')
    if (ending !== undefined && !isKilled) throw this.#endError(ending)
  }

  send(order: Order): void {
    sendTo(this.#child, order)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /** The next such tidings. */
  seen<K extends Tidings['is']>(is: K): Promise<TidingsOf<K>> {
    if (this.#ending !== undefined) return Promise.reject(this.#endError(this.#ending))
    return new Promise((resolve, reject) => {
      this.#waiting.set(is, { resolve: (tidings) => resolve(tidings as TidingsOf<K>), reject })
    })
  }

  async kill(): Promise<void> {
    if (this.#ending !== undefined) return
    this.isToDie = true
    this.#child.kill('SIGKILL')
    await this.ended
  }

  #endError(ending: ChildEnding): Error {
    return new Error(`process ${this.number} of the storm ended by itself (${ending})`)
  }
}
