// The demo on a terminal: a line for everyone, with bars that move, and what happened last below.
import { count, mebibytes, ownerName, percent, pidOf, printable, seconds } from './format.ts'
import type { Turn } from './narration.ts'
import { type Colour, type Paint, paintFor } from './paint.ts'
import { fractionOf, type ParticipantRecord } from './record.ts'
import { Terminal } from './terminal.ts'
import type { View } from './view.ts'

const SUMMARY_ORDER = 'starting ready downloading loading generating waiting done killed failed'.split(' ')
const FRAME_MS = 80
const PID_WIDTH = 11
const DOING_WIDTH = 16

export class Screen implements View {
  readonly #label: string
  readonly #records: readonly ParticipantRecord[]
  readonly #terminal: Terminal
  readonly #paint: Paint
  readonly #startedAt = performance.now()
  readonly #log: string[] = []
  readonly #timer: NodeJS.Timeout

  constructor(stream: NodeJS.WriteStream, label: string, records: readonly ParticipantRecord[]) {
    this.#label = label
    this.#records = records
    this.#terminal = new Terminal(stream)
    this.#paint = paintFor(stream)
    this.#timer = setInterval(() => this.#draw(), FRAME_MS)
    this.#draw()
  }

  happened(record: ParticipantRecord, { sentence, isWait }: Turn): void {
    // Who waits is on the lines above, and would drown the rest.
    if (!isWait) this.#log.push(`${this.#clock()}  ${record.name} ${sentence}`)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#terminal.close()
  }

  #clock(): string {
    return `t+${seconds(performance.now() - this.#startedAt)}`
  }

  #draw(): void {
    const { columns, rows } = this.#terminal
    const head = [
      this.#paint('bold', `os-mutex demo  ${this.#clock()}  ${summary(this.#records)}`.slice(0, columns)),
      this.#paint('dim', this.#label.slice(0, columns)),
      '',
      ...this.#records.map((record) => this.#line(record, columns)),
      '',
    ]
    const log = this.#log.slice(-Math.max(1, rows - head.length)).map((line) => line.slice(0, columns))
    this.#terminal.draw([...head, ...log].slice(0, rows))
  }

  #line(record: ParticipantRecord, columns: number): string {
    const { doing, colour, figures } = describe(record, this.#records)
    const left = ` ${record.name} ${pidOf(record).padEnd(PID_WIDTH)} `
    const room = columns - left.length - DOING_WIDTH
    const fraction = fractionOf(record.activity)
    const right =
      fraction === undefined ? figures : `${bar(fraction, room - 29)}${percent(fraction).padStart(5)}  ${figures}`
    return (
      left + this.#paint(colour, doing.padEnd(DOING_WIDTH).slice(0, DOING_WIDTH) + right.slice(0, Math.max(0, room)))
    )
  }
}

function describe(
  record: ParticipantRecord,
  all: readonly ParticipantRecord[],
): { doing: string; colour: Colour; figures: string } {
  const { activity } = record
  switch (activity.is) {
    case 'waiting':
      return {
        doing: activity.owner ? `waits for ${ownerName(activity.owner, all)}` : 'has the file',
        colour: 'yellow',
        figures: '',
      }
    case 'downloading': {
      const { phase, bytesPerSecond, etaMs } = activity
      const rate = bytesPerSecond === undefined || phase !== 'downloading' ? '' : `${mebibytes(bytesPerSecond)}/s`
      const left = etaMs === undefined || phase !== 'downloading' ? '' : `  ${seconds(etaMs)} left`
      return { doing: phase === 'downloading' ? 'downloads' : phase, colour: 'cyan', figures: rate + left }
    }
    case 'waiting-to-load': {
      const loader = all.find((other) => other.activity.is === 'loading')
      return {
        doing: 'waits to load',
        colour: 'yellow',
        figures: loader === undefined ? '' : `${loader.name} is loading`,
      }
    }
    case 'loading':
      return { doing: 'LOADS', colour: 'magenta', figures: '' }
    case 'generating':
      return { doing: 'generates', colour: 'green', figures: printable(record.text) }
    case 'done':
      return { doing: 'done', colour: 'green', figures: `${count(record.tokens, 'token')}: ${printable(record.text)}` }
    case 'killed':
      return {
        doing: 'KILLED',
        colour: 'red',
        figures: `in its ${activity.downloaded === undefined ? 'load' : 'download'}`,
      }
    case 'failed':
      return { doing: 'FAILED', colour: 'red', figures: printable(activity.message) }
    default:
      return { doing: activity.is, colour: 'dim', figures: '' }
  }
}

/** Nothing where there is no room for it. */
function bar(fraction: number, room: number): string {
  const width = Math.min(40, room)
  if (width < 5) return ''
  const full = Math.round(Math.min(1, fraction) * width)
  return `${'█'.repeat(full)}${'░'.repeat(width - full)} `
}

function summary(records: readonly ParticipantRecord[]): string {
  const doing = records.map(({ activity }) => activity.is.replace('waiting-to-load', 'waiting'))
  return SUMMARY_ORDER.flatMap((what) => {
    const number = doing.filter((other) => other === what).length
    return number === 0 ? [] : [`${number} ${what}`]
  }).join(', ')
}
