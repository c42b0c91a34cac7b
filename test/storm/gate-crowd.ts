// The processes of the gate storm. Each runs on the host or in a container, which shares nothing with the host but the models
// folder and the kernel: there the folder's lock excludes, and not the machine's.
import { basename, dirname, join } from 'node:path'
import type { LlamaModelGateOptions } from 'os-mutex/llama'
import { Container } from '../support/containers.ts'
import { flockQueue } from '../support/flock-queue.ts'
import type { GateFolder } from '../support/gate-folder.ts'
import { GateProcess } from '../support/gate-process.ts'
import { withNamespaces } from '../support/namespaces.ts'
import type { Model } from './gate-model.ts'
import type { Random } from './random.ts'

const containersInStorm = 2

/** Why all processes run on the host. `undefined`: they need not. */
export const whyHostAlone = 'skip' in withNamespaces ? withNamespaces.skip : undefined

export class GateCrowd implements AsyncDisposable {
  readonly #folder: GateFolder
  readonly #containers: readonly Container[]
  readonly #alive = new Set<GateProcess>()
  readonly #doomed = new Set<GateProcess>()
  #isOver = false
  kills = 0
  /** Started in containers. */
  contained = 0

  private constructor(folder: GateFolder, containers: readonly Container[]) {
    this.#folder = folder
    this.#containers = containers
  }

  static async open(folder: GateFolder): Promise<GateCrowd> {
    const containers: Container[] = []
    try {
      for (let number = 1; number <= (whyHostAlone === undefined ? containersInStorm : 0); number++)
        containers.push(await Container.start({ shared: [folder.models], hostname: `storm-${number}` }))
      return new GateCrowd(folder, containers)
    } catch (error) {
      await Promise.all(containers.map((container) => container[Symbol.asyncDispose]()))
      throw error
    }
  }

  /** `where` draws where it runs. */
  async start(where: Random): Promise<GateProcess> {
    const container = where.pick([undefined, ...this.#containers])
    if (this.#isOver) throw new Error('The storm is over')
    const child =
      container === undefined
        ? GateProcess.begin(this.#folder.options)
        : GateProcess.begin(this.#optionsInside, quietly, container.node())
    if (container !== undefined) this.contained++
    this.#alive.add(child)
    await child.ready()
    return child
  }

  /** The host's mutexes are not to be seen in there, so it has its own. */
  get #optionsInside(): LlamaModelGateOptions {
    const { mutexDirectory: _, ...options } = this.#folder.options
    return options
  }

  isDoomed(child: GateProcess): boolean {
    return this.#doomed.has(child)
  }

  /** Resolves when nothing of it is left. */
  async kill(child: GateProcess): Promise<void> {
    this.kills++
    this.#doomed.add(child)
    await this.dismiss(child)
    const ending = await child.ended
    // Another end than by its kill is one that nobody ordered. Windows gives the exit code of whoever has ended a process.
    if (ending !== 'SIGKILL' && process.platform !== 'win32')
      throw new Error(`a process of the storm ended by itself (${ending})`)
  }

  /** Ends one that has done its work. */
  async dismiss(child: GateProcess): Promise<void> {
    await child.kill()
    this.#alive.delete(child)
  }

  /** Who is downloading a model: where there are containers, whoever has the folder's lock, which comes after the machine's. */
  downloaderOf(model: Model): GateProcess | undefined {
    const pid = this.#containers.length > 0 ? folderOwner(model.destination) : model.download.query().owner?.pid
    if (pid === undefined) return undefined
    return [...this.#alive].find((child) => child.pid === pid && !this.#doomed.has(child))
  }

  async killAll(): Promise<void> {
    await Promise.all([...this.#alive].map((child) => child.kill()))
    this.#alive.clear()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true
    await this.killAll()
    await Promise.all(this.#containers.map((container) => container[Symbol.asyncDispose]()))
  }
}

/** A private /tmp is worth a warning to users, and here it is meant. */
const quietly = { NODE_NO_WARNINGS: '1' }

/** By the kernel: it knows the pid out here of who runs in there. */
function folderOwner(destination: string): number | undefined {
  try {
    return flockQueue(join(dirname(destination), '.locks', basename(destination))).owners[0]
  } catch {
    // Nobody has locked it yet.
    return undefined
  }
}
