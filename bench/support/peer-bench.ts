// What all measurements share: the folder, the figures, and how a measurement that can't be had is noted.
import { mkdtempSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Peer } from '../peers/peer.ts'
import type { Figure, Figures } from './peer-figures.ts'
import { queuedRequests } from './peer-proc.ts'
import { Unmeasured } from './peer-process.ts'

const QUEUE_LIMIT_MS = 10_000

/** The name of the mutex in each room. */
export const NAME = 'bench'

export interface Measurement {
  readonly id: string
  /** Once in a run, not in each round. */
  readonly once?: true
  /** Measures all peers, one after the other or together. */
  run(bench: Bench): Promise<void>
}

export class Bench {
  readonly peers: readonly Peer[]
  readonly figures: Figures
  readonly #folder: string

  constructor(peers: readonly Peer[], figures: Figures, folder: string) {
    this.peers = peers
    this.figures = figures
    this.#folder = folder
  }

  /** A folder of its own for each measurement: what a peer leaves behind is not found by the next. It lies beside the C programs. */
  room(): string {
    return mkdtempSync(path.join(this.#folder, 'room-'))
  }

  /** What once was not to be had is not tried again: it would cost its limit in each round. */
  async measure(peer: Peer, figures: readonly Figure[], what: () => Promise<void>): Promise<void> {
    if (figures.some((figure) => this.figures.missing(peer, figure) !== undefined)) return
    try {
      await what()
    } catch (error) {
      if (!(error instanceof Unmeasured)) throw error
      this.figures.miss(peer, figures, error.message)
    }
  }
}

/** Until so many wait: the kernel says so, where it knows. The release then finds a poller at any moment between two of its looks. */
export async function untilWaiting(peer: Peer, folder: string, count: number): Promise<void> {
  if (peer.pollMs !== undefined) {
    await sleep(20 + Math.random() * peer.pollMs)
    return
  }
  const file = peer.file(folder, NAME)
  const end = performance.now() + QUEUE_LIMIT_MS
  for (;;) {
    const queued = queuedRequests(file)
    if (queued >= count) return
    if (performance.now() > end) throw new Unmeasured(`${queued} of ${count} queued after ${QUEUE_LIMIT_MS / 1000} s`)
    await sleep(2)
  }
}
