// The gate storm's conductor: processes download and load a few models from a real server, whose files are replaced and whose connections
// are cut, and are killed and aborted at random moments. The same seed gives the same plan to each place in the crowd.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { LlamaModelGate, ModelDownloadError } from 'os-mutex/llama'
import { decodeRecord } from '../support/download-internals.ts'
import { GateFolder } from '../support/gate-folder.ts'
import { GateProcess, type RemoteCall } from '../support/gate-process.ts'
import { ModelServer } from '../support/model-server.ts'
import { bytesPerSecond, KiB, MiB, Model, type ModelLedger, type ModelPlan } from './gate-model.ts'
import { Observer, type Sight } from './observer.ts'
import { watched } from './progress.ts'
import { Random } from './random.ts'
import { lengthOptions, runStorm, type Storm, type StormLength } from './storm.ts'

export interface GateStormOptions extends StormLength {
  readonly seed: number
  /** At least so many processes are killed, if the storm is not timed. */
  readonly kills: number
  readonly processes: number
  readonly models: readonly ModelPlan[]
}

export const longGateStorm = {
  kills: 300,
  isTimed: false,
  seconds: Number.POSITIVE_INFINITY,
  hangSeconds: 120,
  processes: 4,
  models: [
    { bytes: 512 * KiB, connections: 1 },
    { bytes: 4 * MiB, connections: 1 },
    { bytes: 20 * MiB, connections: 4 },
  ],
} as const satisfies Omit<GateStormOptions, 'seed'>

export const shortGateStorm = { ...longGateStorm, kills: 15, processes: 3 } as const

/** What does the same again. */
export function gateCommand(options: GateStormOptions): string {
  const { kills, processes, seed } = options
  return `npm run test:gate-storm -- ${lengthOptions(`--kills=${kills}`, options)} --processes=${processes} --seed=${seed}`
}

export interface GateStormReport {
  readonly violations: readonly string[]
  readonly kills: number
  readonly downloads: number
  readonly loads: number
  readonly looks: number
  /** What `gate.prune` found at the end. */
  readonly pruned: number
  readonly ledgers: readonly ModelLedger[]
  readonly seconds: number
}

export async function runGateStorm(options: GateStormOptions): Promise<GateStormReport> {
  return runStorm(await GateStorm.open(options))
}

const actions = { kill: 45, 'kill at rest': 20, abort: 10, replace: 15, cut: 10 } as const
const deadMessage = /^The child ended/
const abortMessage = 'aborted by the test'

/** A downloader that has all bytes on the disk which were sent to it. */
interface Resting {
  readonly owner: GateProcess
  readonly bytes: number
}

export class GateStorm implements Storm<GateStormReport> {
  readonly command: string
  readonly violations: string[] = []
  readonly #options: GateStormOptions
  readonly #folder: GateFolder
  readonly #server: ModelServer
  readonly #models: readonly Model[]
  readonly #observer: Observer
  readonly #crowd = new Set<GateProcess>()
  readonly #doomed = new Set<GateProcess>()
  #kills = 0
  #downloads = 0
  #loads = 0
  #callsEnded = 0
  #isOver = false

  private constructor(options: GateStormOptions, folder: GateFolder, server: ModelServer) {
    this.command = gateCommand(options)
    this.#options = options
    this.#folder = folder
    this.#server = server
    this.#models = options.models.map((plan, index) => new Model(index, plan, folder, server))
    const paths = this.#models.map(({ destination }) => destination)
    this.#observer = new Observer(paths, (sight) => this.#judge(sight))
  }

  static async open(options: GateStormOptions): Promise<GateStorm> {
    const folder = await GateFolder.create()
    return new GateStorm(options, folder, await ModelServer.start({ bytesPerSecond }))
  }

  get progress(): string {
    const { kills, isTimed } = this.#options
    const killed = `${this.#kills}${isTimed ? '' : ` of ${kills}`} kills`
    return `${killed}, ${this.#downloads} downloads and ${this.#loads} loads begun`
  }

  run(): Promise<GateStormReport> {
    const read = () => this.#models.reduce((sum, { path }) => sum + this.#server.bytesServed(path), this.#callsEnded)
    const { hangSeconds } = this.#options
    const work = Promise.race([this.#run(), this.#observer.failed])
    return watched(work, { what: 'got a byte, and no call ended', hangSeconds, read })
  }

  async #run(): Promise<GateStormReport> {
    const beganAt = performance.now()
    const endsAt = beganAt + this.#options.seconds * 1_000
    const places = Array.from({ length: this.#options.processes }, (_, place) => this.#rage(place, endsAt))
    await Promise.all(places)
    await this.#killAll()
    await this.#recover()
    const looks = await this.#observer.stop()
    const pruned = await this.#clear()
    await Promise.all(this.#models.map(({ path }) => this.#server.idle(path)))
    const ledgers = this.#models.map(({ ledger }) => ledger)
    for (const { served, bound, bytes } of ledgers) {
      if (served > bound) this.violations.push(`${served} bytes served of a model of ${bytes}: more than ${bound}`)
    }
    this.#throwIfShort(looks)
    const seconds = (performance.now() - beganAt) / 1_000
    const [violations, kills, downloads, loads] = [this.violations, this.#kills, this.#downloads, this.#loads]
    return { violations, kills, downloads, loads, looks, pruned, ledgers, seconds }
  }

  /** A storm that was too short proves nothing, though it broke no promise. */
  #throwIfShort(looks: number): void {
    const { kills, isTimed, seconds } = this.#options
    if (this.#kills < (isTimed ? 1 : kills)) throw new Error(`its ${seconds} s were over before the kills had come`)
    if (looks === 0) throw new Error('nobody has looked at a published file')
  }

  async end(): Promise<void> {
    this.#isOver = true
    await this.#killAll()
    await this.#observer.end()
    await this.#server.close()
    await this.#folder[Symbol.asyncDispose]()
  }

  async #killAll(): Promise<void> {
    await Promise.all([...this.#crowd].map((child) => child.kill()))
    this.#crowd.clear()
  }

  #judge({ path, sha256, bytes }: Sight): void {
    const model = this.#models.find(({ destination }) => destination === path)
    if (model?.served.has(sha256)) return
    this.violations.push(
      `${basename(path)} was seen with ${bytes} bytes and the SHA-256 ${sha256}, which nobody has served`,
    )
  }

  /** One place in the crowd: a process that asks for one model after the other until it is killed, and its successors. */
  async #rage(place: number, endsAt: number): Promise<void> {
    const random = new Random(this.#options.seed, place)
    let child: GateProcess | undefined
    const isDue = () => this.#options.isTimed || this.#kills < this.#options.kills
    while (!this.#isOver && isDue() && performance.now() < endsAt) {
      if (child === undefined || this.#doomed.has(child)) child = await this.#start()
      await this.#disturb(child, random)
    }
  }

  /** One call and what happens to it. */
  async #disturb(child: GateProcess, random: Random): Promise<void> {
    const model = random.pick(this.#models)
    const action = random.weighted(actions)
    if (action === 'kill at rest' && model.plan.connections === 1 && !model.isPaused) {
      await this.#killAtRest(child, model, random)
      return
    }
    // Without a new file there would be nothing to fetch.
    if (random.chance(0.5)) model.replace(random)
    const call = this.#call(child, model, random)
    const moment = random.chance(0.8)
      ? this.#server.reached(model.path, this.#server.bytesServed(model.path) + random.next() * model.plan.bytes)
      : sleep(random.below(100))
    if (action === 'cut') {
      model.tally.cuts++
      const atByte = random.below(model.plan.bytes)
      this.#server.fault(model.path, { kind: 'cut', atByte, times: 1, reset: random.chance(0.5) })
    } else {
      await Promise.race([ended(call), moment])
    }
    if (action === 'replace') model.replace(random)
    if (action === 'abort' && !this.#doomed.has(child)) {
      model.tally.aborts++
      call.abort()
    }
    if (action === 'kill' && !this.#doomed.has(child)) {
      model.tally.kills++
      await this.#end(child)
    }
    await this.#judgeEnd(call, child)
  }

  #call(child: GateProcess, model: Model, random: Random): RemoteCall<unknown> {
    const { connections } = model.plan
    const options = { fetch: 'always', connections } as const
    // A load takes long to begin: not too many of them, and of small models.
    if (model.plan.bytes <= MiB && random.chance(0.4)) {
      this.#loads++
      return child.load(model.url, options)
    }
    this.#downloads++
    return child.ensureModel(model.url, options)
  }

  async #end(child: GateProcess): Promise<void> {
    this.#kills++
    this.#doomed.add(child)
    await child.kill()
    this.#crowd.delete(child)
    await throwIfNotKilled(child)
  }

  /**
   * Holds the server's bytes back at an offset, and kills whoever is downloading when all that was sent is on the disk: the next one has
   * to go on from there, to the byte.
   */
  async #killAtRest(child: GateProcess, model: Model, random: Random): Promise<void> {
    model.isPaused = true
    model.replace(random)
    const pausedAt = 64 * KiB + random.below(model.plan.bytes - 64 * KiB)
    this.#server.pause(model.path, pausedAt)
    const call = this.#call(child, model, random)
    const over = settled(call)
    for (let isKilled = false; !isKilled && !over.is && !this.#isOver; await sleep(1)) {
      const resting = this.#resting(model, pausedAt)
      if (resting === undefined) continue
      isKilled = true
      await this.#goOn(model, resting)
    }
    this.#server.resume(model.path)
    model.isPaused = false
    await this.#judgeEnd(call, child)
  }

  /** Kills the owner, and sees where a successor goes on. */
  async #goOn(model: Model, { owner, bytes }: Resting): Promise<void> {
    const [gets, changes] = [model.starts.length, model.changes]
    model.tally.killsAtRest++
    await this.#end(owner)
    const next = await this.#start()
    const call = next.ensureModel(model.url, { fetch: 'always' })
    const over = settled(call)
    while (model.starts.length === gets && !over.is && !this.#isOver) await sleep(1)
    const start = model.starts[gets]
    // None: what is published is what the server has by now, and the killed one was at a version before it.
    if (model.changes === changes && start !== undefined && start !== bytes) {
      const what = `${bytes} bytes were on the disk when their owner was killed, and the next one went on from ${start}`
      this.violations.push(`${model.path}: ${what}`)
    }
    this.#server.resume(model.path)
    await this.#judgeEnd(call, next)
    await next.kill()
    this.#crowd.delete(next)
  }

  async #start(): Promise<GateProcess> {
    if (this.#isOver) throw new Error('The storm is over')
    const child = GateProcess.begin(this.#folder.options)
    this.#crowd.add(child)
    await child.ready()
    return child
  }

  /** Who downloads this model and has on the disk, by its map, all that was sent: if that is so. */
  #resting(model: Model, pausedAt: number): Resting | undefined {
    const { owner: holder } = model.download.query()
    const owner = [...this.#crowd].find((child) => child.pid === holder?.pid && !this.#doomed.has(child))
    if (owner === undefined) return undefined
    const expected = Math.max(pausedAt, model.starts.at(-1) ?? 0)
    const isThere = mappedBytes(model.destination).includes(expected)
    return isThere && expected < model.plan.bytes ? { owner, bytes: expected } : undefined
  }

  /** How a call may end: well, by its own abort, by its process's death, or by a server that gives up in the midst of it. */
  async #judgeEnd(call: RemoteCall<unknown>, child: GateProcess): Promise<void> {
    const error = await ended(call)
    this.#callsEnded++
    if (error === undefined || error.message === abortMessage) return
    if (deadMessage.test(error.message)) {
      if (this.#doomed.has(child)) return
      throw new Error(`a process of the storm ended by itself (${await child.ended})`)
    }
    this.violations.push(`A call ended with ${(error as { code?: unknown }).code}: ${error.message}`)
  }

  /** All is well again: everybody gets the file that the server has now. */
  async #recover(): Promise<void> {
    const gate = new LlamaModelGate(this.#folder.options)
    for (const model of this.#models) {
      this.#server.fault(model.path, undefined)
      try {
        const { sha256 } = await gate.ensureModel(model.url, { fetch: 'always', connections: model.plan.connections })
        if (sha256 !== model.current.sha256) this.violations.push(`${model.path} is another file at the end: ${sha256}`)
        const { verdict } = await gate.verify(model.destination)
        if (verdict !== 'intact') this.violations.push(`${model.path} is ${verdict} at the end`)
      } catch (error) {
        const code = error instanceof ModelDownloadError ? error.code : ''
        this.violations.push(`${model.path} could not be had at the end: ${code} ${error}`)
      }
    }
  }

  /** Nothing stays but models and their manifests. */
  async #clear(): Promise<number> {
    const pruned = await new LlamaModelGate(this.#folder.options).prune({ olderThanMs: 0 })
    const names = this.#models.map(({ destination }) => basename(destination))
    const right = ['.locks', ...names, ...names.map((name) => `.${name}.os-mutex.json`)].sort()
    const left = readdirSync(this.#folder.models).filter((name) => !right.includes(name))
    for (const name of left) this.violations.push(`${name} was left among the models`)
    return pruned.length
  }
}

/** How many bytes each partial of a model has, by its map. */
function mappedBytes(destination: string): number[] {
  const [folder, name] = [dirname(destination), basename(destination)]
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

/** Whether a call is over, at any moment. */
function settled(call: RemoteCall<unknown>): { readonly is: boolean } {
  const state = { is: false }
  void ended(call).then(() => {
    state.is = true
  })
  return state
}

/** The error that a call ended with, if any. */
function ended(call: RemoteCall<unknown>): Promise<Error | undefined> {
  return call.result.then(
    () => undefined,
    (error: Error) => error,
  )
}

/** Another end than by its kill is one that nobody ordered. Windows gives the exit code of whoever has ended a process. */
async function throwIfNotKilled(child: GateProcess): Promise<void> {
  const ending = await child.ended
  if (ending !== 'SIGKILL' && process.platform !== 'win32')
    throw new Error(`a process of the storm ended by itself (${ending})`)
}
