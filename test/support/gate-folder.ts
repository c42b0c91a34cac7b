// A models folder and a lock folder of a test's own, and the gate's mutexes seen from outside.
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NamedMutex } from 'os-mutex'
import type { LlamaModelGateOptions } from 'os-mutex/llama'

export class GateFolder implements AsyncDisposable {
  readonly path: string
  readonly models: string
  readonly options: LlamaModelGateOptions
  readonly #locks: string

  private constructor(path: string) {
    this.path = path
    this.models = join(path, 'models')
    this.#locks = join(path, 'locks')
    this.options = { modelsDirectory: this.models, mutexDirectory: this.#locks, prefix: 'gate-test' }
  }

  static async create(): Promise<GateFolder> {
    const folder = new GateFolder(await realpath(await mkdtemp(join(tmpdir(), 'os-mutex-gate-'))))
    await mkdir(folder.models)
    await mkdir(folder.#locks)
    return folder
  }

  /** `of` is a real path, or a device's name. Spelled out here: versions that disagree on a name do not exclude each other. */
  mutex(kind: 'Download' | 'Model' | 'Device', of: string): NamedMutex {
    const id = createHash('sha256').update(of).digest('hex').slice(0, 32)
    return new NamedMutex(`Global\\gate-test_${kind}_${id}`, { directory: this.#locks })
  }

  get backendMutex(): NamedMutex {
    return new NamedMutex('Global\\gate-test_Backend', { directory: this.#locks })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
  }
}
