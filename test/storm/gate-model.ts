// A model of the gate storm: one file on the server, or the parts of a split model, which change as a whole.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { NamedMutex } from 'os-mutex'
import type { PublishedModel } from 'os-mutex/llama'
import { decodeRecord } from '../support/download-internals.ts'
import type { GateFolder } from '../support/gate-folder.ts'
import type { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'
import { costOf, type FilePlan, lossOf } from './gate-ledger.ts'
import type { Random } from './random.ts'

export const KiB = 1024
export const MiB = 1024 * KiB

const versionsOfModel = 3

export interface ModelPlan {
  /** Bytes of each part; of a model that is not split, of its file. */
  readonly parts: readonly number[]
  readonly connections: number
}

export interface ModelLedger extends ModelPlan {
  readonly bytes: number
  /** How often the server got another version of it that somebody then asked for. */
  readonly versions: number
  readonly kills: number
  readonly aborts: number
  readonly cuts: number
  /** Kills of a downloader that had everything on disk which the server had sent. */
  readonly killsAtRest: number
  readonly files: readonly FileLedger[]
}

export interface FileLedger {
  readonly path: string
  readonly bytes: number
  readonly versions: number
  readonly served: number
  readonly bound: number
}

/** What was served of each part of a model at some moment. */
export type Served = readonly number[]

/** One file of a model on the server, and what was asked and served of it. */
export class Part {
  readonly path: string
  /** Where its partial is, and where its first version lies. */
  readonly destination: string
  readonly plan: FilePlan
  readonly #server: ModelServer
  #current: TinyGguf | undefined
  #lost = 0
  #changes = 0
  #versionsBefore = 0
  #getsBefore = 0

  constructor(name: string, plan: FilePlan, folder: GateFolder, server: ModelServer) {
    this.path = `/${name}`
    this.destination = join(folder.models, name)
    this.plan = plan
    this.#server = server
  }

  /**
   * Another content from now on, or the same one still. Of a split model it has a new ETag each time, as servers have that make
   * it from the time of the change: parts that a server had at different times must not look like one version.
   */
  serve(content: TinyGguf): void {
    if (content === this.#current) return
    this.#versionsBefore = this.versions
    this.#getsBefore = this.starts.length
    this.#changes++
    this.#current = content
    const etag = this.plan.isPart ? { etag: `"${content.sha256.slice(0, 16)}-${this.#changes}"` } : {}
    this.#server.serve(this.path, { file: content.path, ...etag })
  }

  /** The byte from which on each GET has asked, so far. */
  get starts(): readonly number[] {
    const gets = this.#server.requests(this.path, 'GET')
    return gets.map(({ headers }) => Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0))
  }

  /** Those that somebody asked for while the server had them. */
  get versions(): number {
    return this.#versionsBefore + (this.starts.length > this.#getsBefore ? 1 : 0)
  }

  get served(): number {
    return this.#server.bytesServed(this.path)
  }

  /** How many bytes each partial of it has, by its map. */
  get mapped(): readonly number[] {
    const [folder, name] = [dirname(this.destination), basename(this.destination)]
    return readdirSync(folder)
      .filter((other) => other.startsWith(`${name}.`) && other.endsWith('.os-mutex-partial-record'))
      .flatMap((record) => {
        try {
          return decodeRecord(readFileSync(join(folder, record)))?.extents.bytes ?? []
        } catch {
          // It is gone again.
          return []
        }
      })
  }

  /** A call that began when so much was served was cut short. What is still being sent to it is known when that has ended. */
  async lose(before: number): Promise<void> {
    await this.#server.idle(this.path)
    this.#lost += lossOf(this.plan, this.served - before)
  }

  /** Its connection will be cut once, at any time. */
  loseOnce(): void {
    this.#lost += lossOf(this.plan)
  }

  get ledger(): FileLedger {
    const { path, plan, versions, served } = this
    return { path, bytes: plan.bytes, versions, served, bound: costOf(plan, { versions, lost: this.#lost }) }
  }
}

/** A model on the server: several versions of one size, one of which it has at a time. */
export class Model {
  readonly url: string
  readonly plan: ModelPlan
  readonly bytes: number
  readonly parts: readonly [Part, ...Part[]]
  /** Whose owner is downloading it, on the host. */
  readonly download: NamedMutex
  readonly #versions: readonly (readonly TinyGguf[])[]
  /** Versions that the server has had, by `versionOf`. */
  readonly #served = new Set<string>()
  readonly #losses: Promise<void>[] = []
  #current: readonly TinyGguf[] = []
  isPaused = false
  /** How often it got another version. */
  changes = 0
  tally = { kills: 0, aborts: 0, cuts: 0, killsAtRest: 0 }

  constructor(index: number, plan: ModelPlan, folder: GateFolder, server: ModelServer) {
    this.plan = plan
    this.bytes = plan.parts.reduce((sum, bytes) => sum + bytes)
    const isPart = plan.parts.length > 1
    const name = (part: number) =>
      `storm-${index}${isPart ? `-${fiveDigits(part + 1)}-of-${fiveDigits(plan.parts.length)}` : ''}.gguf`
    const file = (part: number) => ({ bytes: plan.parts[part] ?? 0, connections: plan.connections, isPart })
    const parts = plan.parts.map((_, part) => new Part(name(part), file(part), folder, server))
    this.parts = parts as [Part, ...Part[]]
    this.download = folder.mutex('Download', this.destination)
    const contents = plan.parts.map((bytes, part) =>
      Array.from({ length: versionsOfModel }, (_, content) => {
        const path = join(folder.path, `${content}-${name(part)}`)
        return makeTinyGguf({ path, bytes, seed: 1 + content + versionsOfModel * (part + 16 * index) })
      }),
    )
    this.#versions = Array.from({ length: versionsOfModel }, (_, version) =>
      contents.map((ofPart, part) => ofPart[contentIn(version, part, parts.length)] as TinyGguf),
    )
    this.url = server.origin + this.parts[0].path
    this.#serve(this.#versions[0] ?? [])
  }

  /** Where it lies; a split one's first version, with its first part. */
  get destination(): string {
    return this.parts[0].destination
  }

  get isSplit(): boolean {
    return this.parts.length > 1
  }

  /** One whose content changes with the version. */
  pickPart(random: Random): Part {
    return random.pick(this.parts.filter((_, part) => part === 0 || part === this.parts.length - 1))
  }

  /** The part that each version has a content of its own of. */
  get lastPart(): Part {
    return this.parts.at(-1) as Part
  }

  /** Another version from now on, of all parts in one moment. */
  replace(random: Random): void {
    this.#serve(random.pick(this.#versions.filter((version) => version !== this.#current)))
  }

  #serve(version: readonly TinyGguf[]): void {
    this.changes++
    this.#current = version
    this.#served.add(versionOf(version))
    for (const [part, content] of version.entries()) this.parts[part]?.serve(content)
  }

  /** What the server has now. */
  get current(): string {
    return versionOf(this.#current)
  }

  hasServed(version: string): boolean {
    return this.#served.has(version)
  }

  get served(): Served {
    return this.parts.map(({ served }) => served)
  }

  /** A call was cut short that began when so much was served. `atRest`: of this part nothing was in flight. */
  lose(before: Served, { atRest }: { readonly atRest?: Part } = {}): void {
    for (const [index, part] of this.parts.entries())
      if (part !== atRest) this.#losses.push(part.lose(before[index] ?? 0))
  }

  /** When nothing is served any more. */
  async closeBooks(): Promise<ModelLedger> {
    await Promise.all(this.#losses)
    const files = this.parts.map(({ ledger }) => ledger)
    const versions = Math.max(...files.map((file) => file.versions))
    return { ...this.plan, ...this.tally, bytes: this.bytes, versions, files }
  }
}

/** All hashes of a model, in order. */
function versionOf(parts: readonly { readonly sha256?: string }[]): string {
  return parts.map(({ sha256 }) => sha256 ?? 'no hash').join(' ')
}

export function versionOfAnswer(model: PublishedModel): string {
  return versionOf(model.parts ?? [model])
}

/**
 * The last part is another in each version, so that parts of two never look like one. The first is another in the first
 * version only, and what lies between is the same in all: who gets a new version need not fetch those again.
 */
function contentIn(version: number, part: number, parts: number): number {
  if (part === parts - 1) return version
  return part === 0 ? Math.min(version, 1) : 0
}

function fiveDigits(number: number): string {
  return String(number).padStart(5, '0')
}
