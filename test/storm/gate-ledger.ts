// The gate storm's books: what was served of each file, and how much of that the disruptions explain.
import { readFileSync } from 'node:fs'

const MiB = 1024 * 1024

/** At which the server serves all files together. */
export const bytesPerSecond = 16 * MiB

export interface FilePlan {
  readonly bytes: number
  readonly connections: number
  /** It is a part of a split model. */
  readonly isPart: boolean
}

export interface FileAccount {
  /** How often the server got another file for it that somebody then asked for. */
  readonly versions: number
  /** The most that disruptions have cost: the sum of `lossOf`. */
  readonly lost: number
}

/**
 * What may be lost of one connection when its reader dies: at most what the kernel holds of it on either side (tcp(7)),
 * and what the reader had in its memory (a few pieces of 64 KiB). With a map also what was written after the map was:
 * 50 ms of all that comes.
 */
const inFlightBytes = kernelBuffers() + MiB
const unmappedBytes = bytesPerSecond / 20

function kernelBuffers(): number {
  try {
    return ['rmem', 'wmem']
      .map((name) => Number(readFileSync(`/proc/sys/net/ipv4/tcp_${name}`, 'utf8').trim().split(/\s+/)[2]))
      .reduce((sum, bytes) => sum + bytes)
  } catch {
    return 10 * MiB
  }
}

/**
 * The most that a disruption may cost of one file: what was in flight. That is never more than the file, nor than what was
 * served of it since the call that it cut short began: a part that nobody was fetching loses nothing.
 */
export function lossOf({ bytes, connections }: FilePlan, servedInCall = Number.POSITIVE_INFINITY): number {
  const inFlight = connections * inFlightBytes + (connections > 1 ? unmappedBytes : 0)
  return Math.min(bytes, servedInCall, inFlight)
}

/**
 * The most that may be served of a file: each version once, and what the disruptions have cost.
 *
 * - With several connections a stretch that is cut short for another lane costs what is in flight, too: no more than once for
 *   each connection and version.
 * - A part of a split model is asked about again when all of them are here. An answer that brings another version by then
 *   is thrown away, and costs what is in flight: once for each version but the first.
 */
export function costOf(plan: FilePlan, { versions, lost }: FileAccount): number {
  const thrownAway = (plan.connections > 1 ? versions : 0) + (plan.isPart ? Math.max(0, versions - 1) : 0)
  return versions * plan.bytes + thrownAway * lossOf(plan) + lost
}
