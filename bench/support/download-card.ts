// The card of figures of `npm run bench:download`: what was measured, beside what, and whether it is enough.
import { ourName } from './download-parties.ts'
import type { Party, Timing, Timings } from './race.ts'
import { digits, median, printTable } from './statistics.ts'

const MiB = 1024 * 1024

export interface Line {
  readonly what: string
  readonly ours: string
  readonly beside?: string
  readonly ratio?: number
  /** Without one the line is reported only. */
  readonly target?: string
  readonly isMet?: boolean
}

export class DownloadCard {
  readonly #lines: Line[] = []

  add(line: Line): void {
    this.#lines.push(line)
  }

  /** A line for each of ours beside each of the others, and one more where our processor time is limited by theirs. */
  compare(what: string, parties: readonly Party[], all: Timings, bytes: number): void {
    for (const our of parties.filter(({ isOurs }) => isOurs)) {
      const scene = our.name === ourName ? what : `${what}, ${our.name}`
      for (const other of parties.filter(({ isOurs }) => !isOurs)) {
        this.#compareTwo(scene, other, all.get(our.name) ?? [], all.get(other.name) ?? [], bytes)
      }
    }
  }

  #compareTwo(
    what: string,
    { name, least, mostCpu }: Party,
    ours: readonly Timing[],
    theirs: readonly Timing[],
    bytes: number,
  ): void {
    const speed = median(pairs(ours, theirs).map(([our, their]) => their.ms / our.ms))
    const beside = `${name}: ${described(theirs, bytes)}`
    const target = least === undefined ? {} : { target: `≥ ${least} × its speed`, isMet: speed >= least }
    this.add({ what, ours: described(ours, bytes), beside, ratio: speed, ...target })
    if (mostCpu === undefined) return
    const cpu = median(pairs(ours, theirs).map(([our, their]) => our.cpuMs / their.cpuMs))
    const ceiling = { target: `≤ ${mostCpu} × its processor time`, isMet: cpu <= mostCpu }
    this.add({
      what: `${what}: processor`,
      ours: cpuOf(ours),
      beside: `${name}: ${cpuOf(theirs)}`,
      ratio: cpu,
      ...ceiling,
    })
  }

  /** Whether every target was met. */
  get isMet(): boolean {
    return this.#lines.every(({ isMet }) => isMet !== false)
  }

  print(): void {
    const rows = this.#lines.map(({ what, ours, beside = '', ratio, target = '', isMet }) => {
      const verdict = isMet === undefined ? '' : isMet ? 'yes' : 'NO'
      return [what, ours, beside, ratio === undefined ? '' : digits(ratio), target, verdict]
    })
    printTable(['what', 'os-mutex, median', 'beside', 'ratio', 'target', 'met'], rows)
  }
}

/** Of one round each, so that both saw the same machine. */
function pairs(ours: readonly Timing[], theirs: readonly Timing[]): (readonly [Timing, Timing])[] {
  return ours.flatMap((our, round) => {
    const their = theirs[round]
    return their === undefined ? [] : [[our, their] as const]
  })
}

function described(timings: readonly Timing[], bytes: number): string {
  const seconds = median(timings.map(({ ms }) => ms)) / 1000
  const processMs = timings.flatMap(({ node }) => (node ? [node.processMs] : []))
  const whole = processMs.length > 0 ? ` (process ${digits(median(processMs) / 1000)} s)` : ''
  return `${digits(seconds)} s${whole}, ${digits(bytes / MiB / seconds)} MiB/s`
}

function cpuOf(timings: readonly Timing[]): string {
  return `${digits(median(timings.map(({ cpuMs }) => cpuMs)) / 1000)} s`
}
