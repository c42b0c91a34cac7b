// The gate storm's conductor: processes on the host and in containers download and load a few models from a real server, whose files
// are replaced and whose connections are cut, and are killed and aborted at random moments. The same seed gives the same plan to
// each place in the crowd.
import { setTimeout as sleep } from 'node:timers/promises'
import { LlamaModelGate, ModelDownloadError, type PublishedModel } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import type { GateProcess, RemoteCall } from '../support/gate-process.ts'
import { ModelServer } from '../support/model-server.ts'
import { GateCrowd } from './gate-crowd.ts'
import { bytesPerSecond } from './gate-ledger.ts'
import { leftAfterPrune } from './gate-leftovers.ts'
import { KiB, MiB, Model, type ModelLedger, type ModelPlan, type Served, versionOfAnswer } from './gate-model.ts'
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
    { parts: [512 * KiB], connections: 1 },
    { parts: [4 * MiB], connections: 1 },
    { parts: [20 * MiB], connections: 4 },
    { parts: [256 * KiB, 256 * KiB, 256 * KiB], connections: 1 },
    { parts: [MiB, 512 * KiB, 2 * MiB], connections: 1 },
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
  /** Processes that were started in containers. */
  readonly contained: number
  /** Downloads of split models that gave up, since their server changed faster than they could follow. */
  readonly outrun: number
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
const outrunMessage = /^The parts of .* change on their server faster than they can be downloaded/
/** A call gives up when it has met so many changes (see group-download.ts). */
const changesThatOutrun = 3

/** A downloader that has all bytes on the disk which were sent to it. */
interface Resting {
  readonly owner: GateProcess
  readonly bytes: number
}

/** One place in the crowd: `where` draws where its processes run, so that a process more changes nothing in its plan. */
interface Place {
  readonly random: Random
  readonly where: Random
}

/** A call in a child, and how things were when it began. */
interface Call {
  readonly child: GateProcess
  readonly model: Model
  readonly remote: RemoteCall<PublishedModel | { tokens: number }>
  readonly before: Served
  readonly changes: number
}

export class GateStorm implements Storm<GateStormReport> {
  readonly command: string
  readonly violations: string[] = []
  readonly #options: GateStormOptions
  readonly #folder: GateFolder
  readonly #server: ModelServer
  readonly #crowd: GateCrowd
  readonly #models: readonly Model[]
  readonly #observer: Observer
  /** What each child is doing. */
  readonly #calls = new Map<GateProcess, Call>()
  #downloads = 0
  #loads = 0
  #outrun = 0
  #callsEnded = 0
  #isOver = false

  private constructor(options: GateStormOptions, folder: GateFolder, server: ModelServer, crowd: GateCrowd) {
    this.command = gateCommand(options)
    this.#options = options
    this.#folder = folder
    this.#server = server
    this.#crowd = crowd
    this.#models = options.models.map((plan, index) => new Model(index, plan, folder, server))
    const subjects = this.#models.map(({ destination, parts }) => ({ path: destination, parts: parts.length }))
    this.#observer = new Observer(subjects, (sight) => this.#judge(sight))
  }

  static async open(options: GateStormOptions): Promise<GateStorm> {
    const folder = await GateFolder.create()
    try {
      const crowd = await GateCrowd.open(folder)
      return new GateStorm(options, folder, await ModelServer.start({ bytesPerSecond }), crowd)
    } catch (error) {
      await folder[Symbol.asyncDispose]()
      throw error
    }
  }

  get progress(): string {
    const { kills, isTimed } = this.#options
    const killed = `${this.#crowd.kills}${isTimed ? '' : ` of ${kills}`} kills`
    return `${killed}, ${this.#downloads} downloads and ${this.#loads} loads begun`
  }

  run(): Promise<GateStormReport> {
    const read = () =>
      this.#models.flatMap(({ served }) => served).reduce((sum, bytes) => sum + bytes, this.#callsEnded)
    const { hangSeconds } = this.#options
    const work = Promise.race([this.#run(), this.#observer.failed])
    return watched(work, { what: 'got a byte, and no call ended', hangSeconds, read })
  }

  async #run(): Promise<GateStormReport> {
    const beganAt = performance.now()
    const endsAt = beganAt + this.#options.seconds * 1_000
    const places = Array.from({ length: this.#options.processes }, (_, place) => this.#rage(place, endsAt))
    await Promise.all(places)
    await this.#crowd.killAll()
    await this.#recover()
    const looks = await this.#observer.stop()
    const pruned = await this.#clear()
    const ledgers = await this.#closeBooks()
    this.#throwIfShort(looks)
    const seconds = (performance.now() - beganAt) / 1_000
    const { kills, contained } = this.#crowd
    const [violations, downloads, loads, outrun] = [this.violations, this.#downloads, this.#loads, this.#outrun]
    return { violations, kills, downloads, loads, looks, contained, outrun, pruned, ledgers, seconds }
  }

  async #closeBooks(): Promise<ModelLedger[]> {
    const files = this.#models.flatMap(({ parts }) => parts)
    await Promise.all(files.map(({ path }) => this.#server.idle(path)))
    const ledgers = await Promise.all(this.#models.map((model) => model.closeBooks()))
    for (const { path, bytes, served, bound } of ledgers.flatMap((ledger) => ledger.files)) {
      if (served > bound) this.violations.push(`${served} bytes served of ${path}, of ${bytes}: more than ${bound}`)
    }
    return ledgers
  }

  /** A storm that was too short proves nothing, though it broke no promise. */
  #throwIfShort(looks: number): void {
    const { kills, isTimed, seconds } = this.#options
    if (this.#crowd.kills < (isTimed ? 1 : kills))
      throw new Error(`its ${seconds} s were over before the kills had come`)
    if (looks === 0) throw new Error('nobody has looked at a published file')
  }

  async end(): Promise<void> {
    this.#isOver = true
    await this.#crowd[Symbol.asyncDispose]()
    await this.#observer.end()
    await this.#server.close()
    await this.#folder[Symbol.asyncDispose]()
  }

  /** What a path was given for, or a note leads to, is all of one version that was served; and it stays. */
  #judge({ path, at, sha256, parts, expected, bytes }: Sight): void {
    const model = this.#models.find(({ destination }) => destination === path)
    const isServed = model?.hasServed(sha256) === true
    if (isServed && (parts === undefined || String(parts) === String(expected))) return
    const what = parts === undefined ? `the SHA-256 ${sha256}` : `parts of the SHA-256s ${parts}`
    const promised = expected === undefined ? '' : `, where ${expected} were promised`
    const whose = isServed ? '' : ', which nobody has served'
    this.violations.push(`${at} was seen with ${bytes} bytes and ${what}${whose}${promised}`)
  }

  /** One place in the crowd: a process that asks for one model after the other until it is killed, and its successors. */
  async #rage(number: number, endsAt: number): Promise<void> {
    const { seed, processes, isTimed, kills } = this.#options
    const place = { random: new Random(seed, number), where: new Random(seed, processes + number) }
    let child: GateProcess | undefined
    const isDue = () => isTimed || this.#crowd.kills < kills
    while (!this.#isOver && isDue() && performance.now() < endsAt) {
      if (child === undefined || this.#crowd.isDoomed(child)) child = await this.#crowd.start(place.where)
      await this.#disturb(child, place)
    }
  }

  /** One call and what happens to it. */
  async #disturb(child: GateProcess, place: Place): Promise<void> {
    const { random } = place
    const model = random.pick(this.#models)
    const action = random.weighted(actions)
    if (action === 'kill at rest' && model.plan.connections === 1 && !model.isPaused) {
      await this.#killAtRest(child, model, place)
      return
    }
    // Without a new file there would be nothing to fetch.
    if (random.chance(0.5)) model.replace(random)
    const part = model.pickPart(random)
    const call = this.#call(child, model, random)
    const moment = random.chance(0.8)
      ? this.#server.reached(part.path, part.served + random.next() * part.plan.bytes)
      : sleep(random.below(100))
    if (action === 'cut') {
      model.tally.cuts++
      part.loseOnce()
      const atByte = random.below(part.plan.bytes)
      this.#server.fault(part.path, { kind: 'cut', atByte, times: 1, reset: random.chance(0.5) })
    } else {
      await Promise.race([ended(call), moment])
    }
    if (action === 'replace') model.replace(random)
    if (action === 'abort' && !this.#crowd.isDoomed(child)) {
      model.tally.aborts++
      call.remote.abort()
    }
    if (action === 'kill' && !this.#crowd.isDoomed(child)) {
      model.tally.kills++
      await this.#crowd.kill(child)
    }
    await this.#judgeEnd(call)
    if (action === 'abort' || action === 'kill') model.lose(call.before)
  }

  #call(child: GateProcess, model: Model, random?: Random): Call {
    const { connections } = model.plan
    const options = { fetch: 'always', connections } as const
    // A load takes long to begin: not too many of them, and of small models.
    const isLoad = model.bytes <= MiB && !model.isSplit && random?.chance(0.4) === true
    if (isLoad) this.#loads++
    else this.#downloads++
    const how = { child, model, before: model.served, changes: model.changes }
    const remote = isLoad ? child.load(model.url, options) : child.ensureModel(model.url, options)
    const call = { ...how, remote }
    this.#calls.set(child, call)
    return call
  }

  /**
   * Holds the server's bytes back at an offset, and kills whoever is downloading when all that was sent is on the disk: the next one has
   * to go on from there, to the byte. Of a split model it is the last part, when the others are here.
   */
  async #killAtRest(child: GateProcess, model: Model, place: Place): Promise<void> {
    const { random } = place
    const { path, plan } = model.lastPart
    model.isPaused = true
    model.replace(random)
    const pausedAt = 64 * KiB + random.below(plan.bytes - 64 * KiB)
    this.#server.pause(path, pausedAt)
    const call = this.#call(child, model, random)
    const over = settled(call)
    for (let isKilled = false; !isKilled && !over.is && !this.#isOver; await sleep(1)) {
      const resting = this.#resting(model, pausedAt)
      if (resting === undefined) continue
      isKilled = true
      await this.#goOn(model, resting, place)
    }
    this.#server.resume(path)
    model.isPaused = false
    await this.#judgeEnd(call)
  }

  /** Kills the owner, and sees where a successor goes on. */
  async #goOn(model: Model, { owner, bytes }: Resting, { where }: Place): Promise<void> {
    const part = model.lastPart
    const [gets, changes] = [part.starts.length, model.changes]
    const killed = this.#calls.get(owner)
    model.tally.killsAtRest++
    await this.#crowd.kill(owner)
    if (killed !== undefined) model.lose(killed.before, { atRest: part })
    const next = await this.#crowd.start(where)
    // It draws nothing: whether it comes to this is for the kernel to say, and not in the plan.
    const call = this.#call(next, model)
    const over = settled(call)
    while (part.starts.length === gets && !over.is && !this.#isOver) await sleep(1)
    const start = part.starts[gets]
    // None: what is published is what the server has by now, and the killed one was at a version before it.
    if (model.changes === changes && start !== undefined && start !== bytes) {
      const what = `${bytes} bytes were on the disk when their owner was killed, and the next one went on from ${start}`
      this.violations.push(`${part.path}: ${what}`)
    }
    this.#server.resume(part.path)
    await this.#judgeEnd(call)
    await this.#crowd.dismiss(next)
  }

  /** Who downloads this model and has on the disk, by its map, all that was sent: if that is so. */
  #resting(model: Model, pausedAt: number): Resting | undefined {
    const owner = this.#crowd.downloaderOf(model)
    if (owner === undefined) return undefined
    const { starts, mapped, plan } = model.lastPart
    const expected = Math.max(pausedAt, starts.at(-1) ?? 0)
    return mapped.includes(expected) && expected < plan.bytes ? { owner, bytes: expected } : undefined
  }

  /** How a call may end: well, by its own abort, by its process's death, or by a server that gives up in the midst of it. */
  async #judgeEnd(call: Call): Promise<void> {
    const { child, model, remote, changes, before } = call
    const error = await ended(call)
    this.#callsEnded++
    if (error === undefined) return this.#judgeAnswer(model, await remote.result)
    if (error.message === abortMessage) return
    if (deadMessage.test(error.message)) {
      if (this.#crowd.isDoomed(child)) return
      throw new Error(`a process of the storm ended by itself (${await child.ended})`)
    }
    if (outrunMessage.test(error.message) && model.changes - changes >= changesThatOutrun) {
      this.#outrun++
      model.lose(before)
      return
    }
    this.violations.push(`A call ended with ${(error as { code?: unknown }).code}: ${error.message}`)
  }

  #judgeAnswer(model: Model, answer: PublishedModel | { tokens: number }): void {
    if ('tokens' in answer) return
    const version = versionOfAnswer(answer)
    if (!model.hasServed(version))
      this.violations.push(`${answer.path} was answered as ${version}, which nobody has served`)
    const parts = answer.parts?.map(({ path, sha256 = '' }) => ({ path, sha256 }))
    if (parts) this.#observer.learn({ path: model.destination, parts })
  }

  /** All is well again: everybody gets the model that the server has now. */
  async #recover(): Promise<void> {
    const gate = new LlamaModelGate(this.#folder.options)
    for (const model of this.#models) {
      for (const { path } of model.parts) this.#server.fault(path, undefined)
      try {
        const answer = await gate.ensureModel(model.url, { fetch: 'always', connections: model.plan.connections })
        this.#judgeAnswer(model, answer)
        const version = versionOfAnswer(answer)
        if (version !== model.current) this.violations.push(`${answer.path} is another version at the end: ${version}`)
        const { verdict } = await gate.verify(answer.path)
        if (verdict !== 'intact') this.violations.push(`${answer.path} is ${verdict} at the end`)
      } catch (error) {
        const code = error instanceof ModelDownloadError ? error.code : ''
        this.violations.push(`${model.url} could not be had at the end: ${code} ${error}`)
      }
    }
  }

  /** Nothing stays but the models of now, and what is known of them. */
  async #clear(): Promise<number> {
    const pruned = await new LlamaModelGate(this.#folder.options).prune({ olderThanMs: 0 })
    for (const name of await leftAfterPrune(this.#folder.models, this.#models))
      this.violations.push(`${name} was left among the models`)
    return pruned.length
  }
}

/** Whether a call is over, at any moment. */
function settled(call: Call): { readonly is: boolean } {
  const state = { is: false }
  void ended(call).then(() => {
    state.is = true
  })
  return state
}

/** The error that a call ended with, if any. */
function ended({ remote }: Call): Promise<Error | undefined> {
  return remote.result.then(
    () => undefined,
    (error: Error) => error,
  )
}
