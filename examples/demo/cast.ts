// Starts the participants: real processes, one of which hosts worker threads.
import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { type ChildEnding, endingOf, sendTo } from '../../test/support/child.ts'
import { thaw } from '../../test/support/gate-freeze.ts'
import { atExit } from './at-exit.ts'
import { type Briefing, monotonicMs, type Order, type Report } from './protocol.ts'
import { ParticipantRecord } from './record.ts'

/** Called when a record has changed: by a report, or by the participant's end. */
export type Listener = (participant: Participant, report: Report | undefined) => void

/** A process that says nothing on the screen, which is the main process's: what others print would tear it. */
class QuietProcess {
  readonly child: ChildProcess
  /** Resolves with how it ended: 0 for a good end. */
  readonly ended: Promise<ChildEnding>
  /** The end of what it printed to stderr. */
  lastWords = ''

  constructor(program: string, args: readonly string[]) {
    const path = fileURLToPath(new URL(program, import.meta.url))
    this.child = fork(path, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.lastWords = (this.lastWords + text).slice(-2000)
    })
    this.ended = endingOf(this.child)
    atExit(() => this.child.kill('SIGKILL'))
  }
}

/** One participant as the demo's main process sees and steers it. */
export class Participant {
  readonly record: ParticipantRecord
  readonly #process: QuietProcess
  /** Its place in its thread host. */
  readonly #index: number | undefined
  readonly #listener: Listener
  readonly #watchers = new Set<() => void>()

  constructor(record: ParticipantRecord, process: QuietProcess, index: number | undefined, listener: Listener) {
    this.record = record
    this.#process = process
    this.#index = index
    this.#listener = listener
    process.child.on('message', (message) => {
      if (index === undefined) this.#hear(message as Report)
      else {
        const [from, report] = message as [number, Report]
        if (from === index) this.#hear(report)
      }
    })
    void process.ended.then((ending) => this.#ended(ending))
  }

  tell(order: Order): void {
    // One that has just died gets nothing: `ended` tells of its end.
    sendTo(this.#process.child, this.#index === undefined ? order : [this.#index, order])
  }

  /** It stands still, in the middle of whatever it does: by SIGSTOP or, on Windows, which has none, because it is told to. */
  async freeze(): Promise<void> {
    if (process.platform !== 'win32') {
      this.#process.child.kill('SIGSTOP')
      return
    }
    this.record.isFrozen = false
    this.tell('freeze')
    await this.until(({ isFrozen }) => isFrozen)
  }

  thaw(): void {
    thaw(this.#process.child.pid ?? 0)
  }

  /** SIGKILL: it gets no chance to clean up. Resolves when the kernel has taken it down. */
  async kill(lockOwner: number): Promise<void> {
    this.record.willBeKilled({ atMs: monotonicMs(), lockOwner })
    this.#changed(undefined)
    this.#process.child.kill('SIGKILL')
    await this.ended()
  }

  /** Resolves when its process has ended, with 0 for a good end. */
  ended(): Promise<ChildEnding> {
    return this.#process.ended
  }

  /** Resolves when `condition` comes true, or with false when the participant is over before that. */
  until(condition: (record: ParticipantRecord) => boolean): Promise<boolean> {
    return new Promise((resolve) => {
      const look = () => {
        const isTrue = condition(this.record)
        if (!isTrue && !this.record.isOver) return
        this.#watchers.delete(look)
        resolve(isTrue)
      }
      this.#watchers.add(look)
      look()
    })
  }

  #hear(report: Report): void {
    this.record.apply(report)
    this.#changed(report)
  }

  #ended(ending: ChildEnding): void {
    this.record.ended(`${ending} ${this.#process.lastWords}`.trim())
    this.#changed(undefined)
  }

  #changed(report: Report | undefined): void {
    this.#listener(this, report)
    for (const look of [...this.#watchers]) look()
  }
}

export function startProcess(name: string, briefing: Briefing, listener: Listener): Participant {
  const process = new QuietProcess('./participant.js', [JSON.stringify(briefing)])
  return new Participant(new ParticipantRecord(name), process, undefined, listener)
}

/** Worker threads of one more process. */
export function startThreads(names: readonly string[], briefing: Briefing, listener: Listener): Participant[] {
  const host = new QuietProcess('./thread-host.js', [String(names.length), JSON.stringify(briefing)])
  return names.map((name, index) => new Participant(new ParticipantRecord(name), host, index, listener))
}
