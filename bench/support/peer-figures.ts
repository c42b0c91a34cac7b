// What was measured, by peer and figure: every sample, or the reason why there is none.
import type { Peer } from '../peers/peer.ts'
import { median, percentile } from './statistics.ts'

export const SIZES = [2, 8, 32, 128] as const

/** The steps of a hand-off, as the kernel's trace tells them. */
export const STEPS = ['release', 'wakeThread', 'thread', 'wakeLoop', 'loop'] as const
type Step = (typeof STEPS)[number]

export type Figure =
  | 'pairUs'
  | 'sixCallsUs'
  | `handOffUs${(typeof SIZES)[number]}`
  | `${Step}Us`
  | 'recoveryMs'
  | 'waitCpuMs'
  | 'leastShare'
  | 'greatestShare'
  | 'turnsPerSecond'
  | 'lostUpdates'
  | 'overlaps'
  | 'statFreeUs'
  | 'statWaitingUs'
  | 'delayFreeMs'
  | 'delayWaitingMs'
  | 'threadsEach'
  | 'kibEach'
  | 'keptMs'
  | 'lostAfterMs'

interface Measured {
  readonly values: number[]
  missing?: string
}

export class Figures {
  readonly #peers = new Map<string, Map<Figure, Measured>>()

  #at(peer: Peer, figure: Figure): Measured {
    const figures = this.#peers.get(peer.name) ?? new Map<Figure, Measured>()
    this.#peers.set(peer.name, figures)
    const measured = figures.get(figure) ?? { values: [] }
    figures.set(figure, measured)
    return measured
  }

  add(peer: Peer, figure: Figure, ...values: readonly number[]): void {
    // No spread: there may be more values than a call takes.
    for (const value of values) this.#at(peer, figure).values.push(value)
  }

  miss(peer: Peer, figures: readonly Figure[], reason: string): void {
    for (const figure of figures) this.#at(peer, figure).missing = reason
  }

  values(peer: Peer, figure: Figure): readonly number[] {
    return this.#peers.get(peer.name)?.get(figure)?.values ?? []
  }

  /** Why a figure is not there, or was there in some rounds only. */
  missing(peer: Peer, figure: Figure): string | undefined {
    return this.#peers.get(peer.name)?.get(figure)?.missing
  }

  /** The median, where every round gave it. */
  median(peer: Peer, figure: Figure): number | undefined {
    const values = this.values(peer, figure)
    return values.length === 0 || this.missing(peer, figure) !== undefined ? undefined : median(values)
  }

  p99(peer: Peer, figure: Figure): number {
    return percentile(this.values(peer, figure), 0.99)
  }

  sum(peer: Peer, figure: Figure): number {
    return this.values(peer, figure).reduce((sum, value) => sum + value, 0)
  }

  toJSON(): object {
    return Object.fromEntries([...this.#peers].map(([peer, figures]) => [peer, Object.fromEntries(figures)]))
  }
}
