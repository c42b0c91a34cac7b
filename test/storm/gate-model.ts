// A model of the gate storm, and the books on it: what was served, and how much of that the disruptions explain.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { NamedMutex } from 'os-mutex'
import type { GateFolder } from '../support/gate-folder.ts'
import type { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'
import type { Random } from './random.ts'

export const KiB = 1024
export const MiB = 1024 * KiB

/** At which the server serves all of them together. */
export const bytesPerSecond = 16 * MiB
const versionsOfModel = 3

export interface ModelPlan {
  readonly bytes: number
  readonly connections: number
}

export interface Tally {
  /** How often the server got another file for it that somebody then asked for. */
  readonly versions: number
  readonly kills: number
  readonly aborts: number
  readonly cuts: number
  /** Kills of a downloader that had everything on disk which the server had sent. */
  readonly killsAtRest: number
}

export interface ModelLedger extends ModelPlan, Tally {
  readonly served: number
  readonly bound: number
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

/** A model on the server: several files of one size, one of which it has at a time. */
export class Model {
  readonly path: string
  readonly url: string
  readonly destination: string
  readonly plan: ModelPlan
  /** Whose owner is downloading it. */
  readonly download: NamedMutex
  readonly #server: ModelServer
  readonly #versions: readonly TinyGguf[]
  /** Hashes of those that the server has had. */
  readonly served = new Set<string>()
  current: TinyGguf
  isPaused = false
  /** How often it got another one. */
  changes = 0
  tally = { kills: 0, aborts: 0, cuts: 0, killsAtRest: 0 }
  #versionsBefore = 0
  #getsBefore = 0

  constructor(index: number, plan: ModelPlan, folder: GateFolder, server: ModelServer) {
    const name = `storm-${index}.gguf`
    this.path = `/${name}`
    this.destination = join(folder.models, name)
    this.plan = plan
    this.download = folder.mutex('Download', this.destination)
    this.#server = server
    this.#versions = Array.from({ length: versionsOfModel }, (_, version) =>
      makeTinyGguf({
        path: join(folder.path, `${version}-${name}`),
        bytes: plan.bytes,
        seed: 1 + index * versionsOfModel + version,
      }),
    )
    this.current = this.#versions[0] as TinyGguf
    this.url = this.serve(this.current)
  }

  serve(version: TinyGguf): string {
    this.#versionsBefore = this.versions
    this.#getsBefore = this.starts.length
    this.changes++
    this.current = version
    this.served.add(version.sha256)
    return this.#server.serve(this.path, version.path)
  }

  /** Another file from now on. */
  replace(random: Random): void {
    this.serve(random.pick(this.#versions.filter((version) => version !== this.current)))
  }

  /** The byte from which on each GET has asked, so far. */
  get starts(): readonly number[] {
    const gets = this.#server.requests(this.path).filter(({ method }) => method === 'GET')
    return gets.map(({ headers }) => Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0))
  }

  /** Those that somebody asked for while the server had them. */
  get versions(): number {
    return this.#versionsBefore + (this.starts.length > this.#getsBefore ? 1 : 0)
  }

  get ledger(): ModelLedger {
    const served = this.#server.bytesServed(this.path)
    const tally = { ...this.tally, versions: this.versions }
    return { ...this.plan, ...tally, served, bound: costOf(this.plan, tally) }
  }
}

/**
 * The most that may be served: each version once, and for each disruption what was in flight. That is never more than
 * the file. A kill at rest finds nothing in flight. With several connections a stretch that is cut short for another
 * lane costs what is in flight, too: no more than once for each connection and version.
 */
export function costOf({ bytes, connections }: ModelPlan, { versions, kills, aborts, cuts }: Tally): number {
  const isMapped = connections > 1
  const inFlight = Math.min(bytes, connections * inFlightBytes + (isMapped ? unmappedBytes : 0))
  return versions * (bytes + (isMapped ? inFlight : 0)) + (kills + aborts + cuts) * inFlight
}
