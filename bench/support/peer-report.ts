// The report, as Markdown.
import type { Peer } from '../peers/peer.ts'
import { type Figure, type Figures, SIZES, STEPS } from './peer-figures.ts'
import { FLOOR, OURS } from './peer-list.ts'
import type { Machine } from './peer-machine.ts'
import { STAT_LIMIT } from './peer-pool.ts'
import { RULES, shortfalls, statRatio } from './peer-shortfalls.ts'
import { hasSteps } from './peer-steps.ts'
import { digits } from './statistics.ts'

export interface Run {
  readonly command: string
  readonly date: string
  readonly rounds: number
  readonly minutes: number
  readonly loadBefore: readonly number[]
  readonly loadAfter: readonly number[]
  readonly machine: Machine
}

/** Free texts from bench/results/notes.json, by id. */
export interface Notes {
  readonly sections: Readonly<Record<string, string>>
  readonly shortfalls: Readonly<Record<string, string>>
}

function table(head: readonly string[], rows: readonly (readonly string[])[], cells: '--:' | '---' = '--:'): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, column) => (column === 0 ? '---' : cells))), ...rows.map(line)].join('\n')
}

/** µs below a millisecond, else ms, else s. */
function span(us: number): string {
  if (us < 1000) return `${digits(us)} µs`
  return us < 1e6 ? `${digits(us / 1000)} ms` : `${digits(us / 1e6)} s`
}

/** Of a peer's figure: what `text` makes of its median, else why there is none. */
function cell(figures: Figures, peer: Peer, figure: Figure, text: (median: number) => string): string {
  const median = figures.median(peer, figure)
  return median === undefined ? (figures.missing(peer, figure) ?? '–') : text(median)
}

function handOffCell(figures: Figures, peer: Peer, size: (typeof SIZES)[number]): string {
  const figure = `handOffUs${size}` as const
  return cell(figures, peer, figure, (median) => `${span(median)} (${span(figures.p99(peer, figure))})`)
}

function times(value: number | undefined): string {
  return value === undefined ? '–' : `${digits(value)} ×`
}

function quotient(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : a / b
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}

function handOffTable(figures: Figures, peers: readonly Peer[]): string {
  const rows = peers.map((peer) => [
    peer.name,
    ...SIZES.map((size) => handOffCell(figures, peer, size)),
    times(quotient(figures.median(peer, 'handOffUs128'), figures.median(peer, 'handOffUs2'))),
  ])
  return table(['', ...SIZES.map((size) => `${size} processes`), '128 ÷ 2'], rows)
}

function stepsTable(figures: Figures, peers: readonly Peer[]): string {
  const rows = peers.filter(hasSteps).map((peer) => {
    const medians = STEPS.map((step) => figures.median(peer, `${step}Us`))
    const sum = medians.reduce<number>((sum, one) => sum + (one ?? Number.NaN), 0)
    return [
      peer.name,
      ...STEPS.map((step) => cell(figures, peer, `${step}Us`, span)),
      Number.isNaN(sum) ? '–' : span(sum),
    ]
  })
  const head = [
    'release, up to its system call',
    'the kernel wakes the waiting thread',
    'that thread, until it rings',
    'the kernel wakes the event loop',
    "up to the next owner's first step",
    'sum',
  ]
  return table(['', ...head], rows)
}

/** The row of what bare C takes for the calls of a pair of ours. */
const SIX_CALLS = `the six system calls of ${OURS.name}, in C`

function aloneTable(figures: Figures, peers: readonly Peer[]): string {
  const floor = figures.median(FLOOR, 'pairUs')
  const sixCalls = figures.median(FLOOR, 'sixCallsUs')
  const pairCells = (peer: Peer, figure: Figure) => {
    const median = figures.median(peer, figure)
    return [cell(figures, peer, figure, span), times(quotient(median, sixCalls)), times(quotient(median, floor))]
  }
  const rows = peers.map((peer) => [
    peer.name,
    ...pairCells(peer, 'pairUs'),
    cell(figures, peer, 'recoveryMs', (ms) => span(ms * 1000)),
    cell(figures, peer, 'waitCpuMs', (ms) => `${digits(ms)} ms`),
  ])
  const sixCallsRow = [SIX_CALLS, ...pairCells(FLOOR, 'sixCallsUs'), '–', '–']
  const head = [
    '',
    'acquire and release',
    '÷ the six calls',
    '÷ bare C',
    'owner killed → next owner',
    'CPU of a 5 s wait',
  ]
  return table(head, peers.includes(FLOOR) ? [...rows, sixCallsRow] : rows)
}

function whenBlocked(figures: Figures, peer: Peer): string {
  const lost = figures.median(peer, 'lostAfterMs')
  if (lost !== undefined) return `two owners, after ${digits(lost / 1000)} s`
  const { staleMs } = peer
  const rule = staleMs === undefined ? '' : ` (it would be after ${staleMs / 1000} s)`
  return cell(figures, peer, 'keptMs', (ms) => `one owner for ${ms / 1000} s${rule}`)
}

function ownersTable(figures: Figures, peers: readonly Peer[]): string {
  const rows = peers.map((peer) => [
    peer.name,
    cell(figures, peer, 'leastShare', percent),
    cell(figures, peer, 'greatestShare', percent),
    cell(figures, peer, 'turnsPerSecond', (turns) => turns.toFixed(0)),
    cell(figures, peer, 'lostUpdates', () => String(figures.sum(peer, 'lostUpdates'))),
    figures.values(peer, 'overlaps').length === 0 ? '–' : String(figures.sum(peer, 'overlaps')),
    whenBlocked(figures, peer),
  ])
  const head = [
    'least share',
    'greatest',
    'turns per s',
    'lost updates',
    'overlapping turns',
    "owner's event loop blocked",
  ]
  return table(['', ...head], rows)
}

function waitersTable(figures: Figures, peers: readonly Peer[]): string {
  const frozen = (reason: string | undefined) => (reason === 'frozen' ? `none within ${STAT_LIMIT}` : (reason ?? '–'))
  const rows = peers
    .filter((peer) => peer.program === undefined)
    .map((peer) => [
      peer.name,
      cell(figures, peer, 'statFreeUs', span),
      figures.median(peer, 'statWaitingUs') === undefined
        ? frozen(figures.missing(peer, 'statWaitingUs'))
        : cell(figures, peer, 'statWaitingUs', span),
      times(statRatio(figures, peer)),
      cell(figures, peer, 'delayFreeMs', (ms) => `${digits(ms)} ms`),
      cell(figures, peer, 'delayWaitingMs', (ms) => `${digits(ms)} ms`),
      cell(figures, peer, 'threadsEach', (threads) => digits(threads)),
      cell(figures, peer, 'kibEach', (kib) => `${digits(kib)} KiB`),
    ])
  const head = [
    '`fs.stat`, none waits',
    '64 wait',
    'ratio',
    'longest delay, none waits',
    '64 wait',
    'threads each',
    'memory each',
  ]
  return table(['', ...head], rows)
}

function machineLines({ machine, ...run }: Run): string {
  const load = (values: readonly number[]) => values.map((value) => value.toFixed(1)).join(', ')
  return [
    `- ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB; ${machine.kernel}; Node ${machine.node}`,
    `- the locks of all peers on ${machine.fileSystem}, in new folders within one that \`mkdtemp\` made beneath \`os.tmpdir()\`; each peer's lock was looked for in its folder before the first round`,
    `- load average ${load(run.loadBefore)} before and ${load(run.loadAfter)} after; ${run.rounds} rounds in ${run.minutes.toFixed(0)} minutes, ${run.date}`,
    `- by \`${run.command}\``,
  ].join('\n')
}

function shortfallLines(figures: Figures, peers: readonly Peer[], notes: Notes): string {
  const found = shortfalls(figures, peers)
  if (found.length === 0) return 'Nowhere, by these rules.'
  const ids = [...new Set(found.map(({ id }) => id))]
  const paragraphs = ids.map((one) => {
    const lines = found.filter(({ id }) => id === one).map(({ text }) => `- ${text}`)
    const note = notes.shortfalls[one]
    return [...lines, ...(note === undefined ? [] : ['', note])].join('\n')
  })
  return paragraphs.join('\n\n')
}

export function markdown(figures: Figures, peers: readonly Peer[], run: Run, notes: Notes): string {
  const note = (id: string) => (notes.sections[id] === undefined ? [] : [notes.sections[id]])
  const parts = [
    '# The mutex beside its peers',
    'Written by `npm run bench`. All peers are measured in one run, in turn in each round; a cell is the median of all rounds unless it says otherwise, and the raw samples are in mutex.json.',
    machineLines(run),
    table(
      ['', 'version', 'how it waits'],
      peers.map((peer) => [peer.name, run.machine.versions[peer.name] ?? '–', peer.waits]),
      '---',
    ),
    '## Hand-off',
    'All wait for one mutex, and each owner hands on: from the moment before the release to the moment after the acquire of the next owner. Median (99th percentile).',
    '![Hand-off by the number of processes](mutex.svg)',
    handOffTable(figures, peers),
    ...note('hand-off'),
    "Where that time goes: the medians of the steps among 8 processes, by the kernel's own trace of the system calls, which costs some time itself.",
    stepsTable(figures, peers),
    ...note('steps'),
    '## Alone, after a death, and in a wait',
    aloneTable(figures, peers),
    ...note('pair'),
    ...note('recovery'),
    ...note('cpu'),
    '## Who owns it, and how many',
    'Shares and turns: 8 processes take and release the mutex in tight loops for 2 s; a fair share is 12.5 %. Lost updates (of a counter in a file, read and written back by each owner) and overlapping turns (by their stamps, here and in the hand-offs) are the sums of all rounds: where they are not 0, there were two owners. In the last column the owner computes for 13 s, and its event loop stands still.',
    ownersTable(figures, peers),
    ...note('fairness'),
    ...note('exclusion'),
    '## What 64 waiters cost their process',
    'One process waits for 64 mutexes that another owns. Memory is PSS, with that of child processes.',
    waitersTable(figures, peers),
    ...note('pool'),
    ...note('memory'),
    '## Where it falls short',
    RULES,
    shortfallLines(figures, peers, notes),
  ]
  return `${parts.join('\n\n')}\n`
}
