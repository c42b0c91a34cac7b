// Where this package falls short, by rule and not by choice: nobody picks what is listed.
import { fsNativeExtensions } from '../peers/fs-native-extensions.ts'
import type { Peer } from '../peers/peer.ts'
import { type Figure, type Figures, SIZES } from './peer-figures.ts'
import { FLOOR, OURS } from './peer-list.ts'
import { digits } from './statistics.ts'

/** Our pair may be so much of its own six system calls in C. */
const PAIR_OF_SIX_CALLS = 1.3
/** Our pair may be 4.5 µs where that of fs-native-extensions, which writes no owner's record, takes 1.7 µs. */
const PAIR_OF_BARE_LOCK = 4.5 / 1.7
/** Our hand-off and our recovery may be so much of the best peer's. */
const NEAR_BEST = 1.1
/** The hand-off among the most processes may cost so much more than between the fewest. */
const FLAT = 2
const LARGEST = SIZES[SIZES.length - 1] ?? 128

interface Contest {
  /** The key of the note. */
  readonly id: string
  readonly what: string
  readonly unit: string
  readonly score: (figures: Figures, peer: Peer) => number | undefined
  /** Ours may be so much of the best peer's. Default: 1. */
  readonly factor?: number
  /** A difference within it is none: what one machine measures twice differs by as much. */
  readonly tolerance: number
}

function lower(id: string, what: string, unit: string, figure: Figure, tolerance: number): Contest {
  return { id, what, unit, score: (figures, peer) => figures.median(peer, figure), tolerance }
}

function near(id: string, what: string, unit: string, figure: Figure): Contest {
  return { ...lower(id, what, unit, figure, 0), factor: NEAR_BEST }
}

/** In all of them less is better. */
const CONTESTS: readonly Contest[] = [
  ...SIZES.map((size) => near('hand-off', `the hand-off among ${size}`, 'µs', `handOffUs${size}`)),
  {
    id: 'fairness',
    what: 'fairness (greatest share ÷ least)',
    unit: '',
    score: (figures, peer) => {
      const least = figures.median(peer, 'leastShare')
      const greatest = figures.median(peer, 'greatestShare')
      return least === undefined || greatest === undefined ? undefined : greatest / least
    },
    tolerance: 0,
  },
  {
    id: 'exclusion',
    what: 'turns that overlapped',
    unit: '',
    score: (figures, peer) =>
      figures.values(peer, 'overlaps').length === 0 ? undefined : figures.sum(peer, 'overlaps'),
    tolerance: 0,
  },
  near('recovery', 'recovery', 'ms', 'recoveryMs'),
  lower('cpu', 'CPU of a 5 s wait', 'ms', 'waitCpuMs', 0.2),
  {
    id: 'pool',
    what: 'fs.stat beside 64 waiters (times that beside none)',
    unit: '×',
    score: statRatio,
    tolerance: 0.1,
  },
  lower('pool', "the event loop's longest delay beside 64 waiters", 'ms', 'delayWaitingMs', 1),
  lower('memory', 'threads per waiter', '', 'threadsEach', 0.1),
  lower('memory', 'memory per waiter', 'KiB', 'kibEach', 1),
]

export function statRatio(figures: Figures, peer: Peer): number | undefined {
  const free = figures.median(peer, 'statFreeUs')
  const waiting = figures.median(peer, 'statWaitingUs')
  return free === undefined || waiting === undefined ? undefined : waiting / free
}

export interface Shortfall {
  readonly id: string
  readonly text: string
}

interface Best {
  readonly peer: Peer
  readonly score: number
}

/** The best of the peers. The bare C loop is none: no Node program could use it. */
function bestPeer(figures: Figures, peers: readonly Peer[], { score }: Contest): Best | undefined {
  const scores = peers
    .filter((peer) => peer !== OURS && peer !== FLOOR)
    .flatMap((peer) => {
      const value = score(figures, peer)
      return value === undefined || Number.isNaN(value) ? [] : [{ peer, score: value }]
    })
  return scores.sort((a, b) => a.score - b.score)[0]
}

function withUnit(value: number, unit: string): string {
  return unit === '' ? digits(value) : `${digits(value)} ${unit}`
}

function pairShortfall(ours: number, theirs: number | undefined, limit: number, whose: string): Shortfall[] {
  if (theirs === undefined || ours <= theirs * limit) return []
  const text = `the uncontended pair: ${digits(ours / theirs)} × ${whose}, more than ${digits(limit)} × (${digits(ours)} µs, ${digits(theirs)} µs)`
  return [{ id: 'pair', text }]
}

function pairShortfalls(figures: Figures): Shortfall[] {
  const ours = figures.median(OURS, 'pairUs')
  if (ours === undefined) return []
  const bareLock = figures.median(fsNativeExtensions, 'pairUs')
  return [
    ...pairShortfall(ours, figures.median(FLOOR, 'sixCallsUs'), PAIR_OF_SIX_CALLS, 'its own six system calls in C'),
    ...pairShortfall(ours, bareLock, PAIR_OF_BARE_LOCK, `the pair of ${fsNativeExtensions.name}`),
  ]
}

/** The rules that {@link shortfalls} applies, for the report. */
export const RULES = `By rule: where its uncontended pair is more than ${digits(PAIR_OF_SIX_CALLS)} × its own six system calls in C, or more than ${digits(PAIR_OF_BARE_LOCK)} × the pair of ${fsNativeExtensions.name} (4.5 µs where that takes 1.7); where its hand-off or its recovery is more than ${digits(NEAR_BEST)} × the best of the peers that a Node program can use; where it is not first among them in anything else that is measured, a small tolerance apart; and where the hand-off among ${LARGEST} processes costs more than ${FLAT} × that between ${SIZES[0]}.`

export function shortfalls(figures: Figures, peers: readonly Peer[]): Shortfall[] {
  const found = pairShortfalls(figures)
  for (const contest of CONTESTS) {
    const ours = contest.score(figures, OURS)
    const best = bestPeer(figures, peers, contest)
    if (ours === undefined || best === undefined) continue
    const { id, what, unit, factor = 1, tolerance } = contest
    const figuresOf = `os-mutex ${withUnit(ours, unit)}, ${best.peer.name} ${withUnit(best.score, unit)}`
    if (ours <= best.score * factor + tolerance) continue
    const verdict = factor === 1 ? 'not first' : `more than ${digits(factor)} × the best peer's`
    found.push({ id, text: `${what}: ${verdict} (${figuresOf})` })
  }
  const least = figures.median(OURS, `handOffUs${SIZES[0]}`)
  const most = figures.median(OURS, `handOffUs${LARGEST}`)
  if (least !== undefined && most !== undefined && most > least * FLAT)
    found.push({
      id: 'hand-off',
      text: `the hand-off is not flat: among ${LARGEST} it costs ${digits(most / least)} × that between ${SIZES[0]}`,
    })
  return found
}
