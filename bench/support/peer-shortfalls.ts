// Where this package falls short, by rule and not by choice: nobody picks what is listed.
import type { Peer } from '../peers/peer.ts'
import { type Figure, type Figures, SIZES } from './peer-figures.ts'
import { FLOOR, OURS } from './peer-list.ts'
import { digits } from './statistics.ts'

/** Of the best peer's hand-off, ours may be so much. */
const HAND_OFF_SHARE = 0.5
/** The hand-off among 128 may cost so much more than between 2. */
const FLAT = 2

interface Contest {
  /** The key of the note. */
  readonly id: string
  readonly what: string
  readonly unit: string
  readonly score: (figures: Figures, peer: Peer) => number | undefined
  /** A difference within it is none: what one machine measures twice differs by as much. */
  readonly tolerance: number
}

function lower(id: string, what: string, unit: string, figure: Figure, tolerance: number): Contest {
  return { id, what, unit, score: (figures, peer) => figures.median(peer, figure), tolerance }
}

/** In all of them less is better. */
const CONTESTS: readonly Contest[] = [
  lower('pair', 'the uncontended pair', 'µs', 'pairUs', 0),
  ...SIZES.map((size) => lower('hand-off', `the hand-off among ${size}`, 'µs', `handOffUs${size}`, 0)),
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
  lower('recovery', 'recovery', 'ms', 'recoveryMs', 0),
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

export function shortfalls(figures: Figures, peers: readonly Peer[]): Shortfall[] {
  const found: Shortfall[] = []
  for (const contest of CONTESTS) {
    const ours = contest.score(figures, OURS)
    const best = bestPeer(figures, peers, contest)
    if (ours === undefined || best === undefined) continue
    const { id, what, unit } = contest
    const figuresOf = `os-mutex ${withUnit(ours, unit)}, ${best.peer.name} ${withUnit(best.score, unit)}`
    if (ours > best.score + contest.tolerance) found.push({ id, text: `${what}: not first (${figuresOf})` })
    else if (id === 'hand-off' && ours > best.score * HAND_OFF_SHARE)
      found.push({ id, text: `${what}: first, but more than half of the best peer's (${figuresOf})` })
  }
  const least = figures.median(OURS, `handOffUs${SIZES[0]}`)
  const most = figures.median(OURS, `handOffUs${SIZES[SIZES.length - 1] ?? 128}`)
  if (least !== undefined && most !== undefined && most > least * FLAT)
    found.push({
      id: 'hand-off',
      text: `the hand-off is not flat: among 128 it costs ${digits(most / least)} times that between 2`,
    })
  return found
}
