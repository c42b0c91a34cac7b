// Turns what a waiter sees in the owner's record into progress events of its own.
import type { OwnerInfo } from '../../mutex/owner-info.ts'
import { monotonicMs } from '../monotonic-clock.ts'
import { isSameOwner } from './patience.ts'

/**
 * Another process or thread is downloading the file; these are its figures. Or the file is here, and another one is loading
 * the version that it replaces (see `owner`): then the figures stand.
 */
export interface WaitingProgress {
  readonly phase: 'waiting'
  /** Bytes that are there so far. Never falls, not even when a new owner has to start over. */
  readonly done: number
  readonly total?: number
  readonly bytesPerSecond?: number
  readonly etaMs?: number
  /** Whom this call waits for, as far as its record can be read. */
  readonly owner?: OwnerInfo
}

/** The rate is the average since the look that is at least this old, so that it neither flickers nor lags. */
const RATE_WINDOW_MS = 3000

interface Sample {
  readonly done: number
  readonly atMs: number
}

/** Makes a listener for looks at the owner's record; it reports each new state of it once. `had`: what there was before. */
export function reportWaiting(
  onProgress: (progress: WaitingProgress) => void,
  had: { readonly done: number; readonly total?: number } = { done: 0 },
): (owner: OwnerInfo | undefined) => void {
  let reported: OwnerInfo | undefined
  let samples: Sample[] = []
  let first = true
  let farthest = had.done

  return (owner) => {
    const sameOwner = isSameOwner(owner, reported)
    if (!first && sameOwner && owner?.progress?.sequence === reported?.progress?.sequence) return
    // Between two owners nobody has figures, and what the kernel calls the owner may be this very process, which has
    // not heard of its grant yet. The figures of before stand.
    if (!first && owner?.progress === undefined) return
    first = false
    reported = owner
    if (!sameOwner) samples = []

    // A load counts in other units.
    const progress = owner?.progress?.unit === 'bytes' ? owner.progress : undefined
    const total = progress === undefined ? had.total : progress.total
    const ownersDone = progress?.done ?? had.done
    // A new owner that looks at what was kept, or starts over, must not turn the bar back.
    farthest = Math.max(farthest, ownersDone)
    const done = total === undefined ? ownersDone : Math.min(farthest, total)
    if (progress !== undefined) samples = recent([...samples, { done: ownersDone, atMs: monotonicMs() }])
    const bytesPerSecond = rate(samples)
    onProgress({
      phase: 'waiting',
      done,
      ...(total !== undefined && { total }),
      ...(bytesPerSecond !== undefined && { bytesPerSecond }),
      ...(bytesPerSecond !== undefined && total !== undefined && { etaMs: ((total - done) / bytesPerSecond) * 1000 }),
      ...(owner !== undefined && { owner }),
    })
  }
}

function recent(samples: Sample[]): Sample[] {
  const latest = samples.at(-1)
  if (latest === undefined) return samples
  const firstInside = samples.findIndex((sample) => latest.atMs - sample.atMs <= RATE_WINDOW_MS)
  return samples.slice(Math.max(0, firstInside - 1))
}

/** Undefined until the owner has moved forward between two looks. */
function rate(samples: readonly Sample[]): number | undefined {
  const oldest = samples[0]
  const latest = samples.at(-1)
  if (oldest === undefined || latest === undefined || latest.done <= oldest.done) return undefined
  return ((latest.done - oldest.done) / (latest.atMs - oldest.atMs)) * 1000
}
