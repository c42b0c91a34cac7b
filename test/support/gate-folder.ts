// A models folder and a lock folder of a test's own, and the gate's mutexes seen from outside.
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NamedMutex } from 'os-mutex'
import type { LlamaModelGateOptions } from 'os-mutex/llama'

/** Systems that do not tell upper from lower case must not tell two mutexes either. */
function pathKey(path: string): string {
  if (process.platform === 'win32') return path.toUpperCase()
  return process.platform === 'darwin' ? path.normalize('NFD').toUpperCase() : path
}

export class GateFolder implements AsyncDisposable {
  readonly path: string
  readonly models: string
  readonly options: LlamaModelGateOptions
  readonly #locks: string
  readonly #mutexes: NamedMutex[] = []

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
    const key = kind === 'Device' ? of : pathKey(of)
    const id = createHash('sha256').update(key).digest('hex').slice(0, 32)
    return this.#open(`Global\\gate-test_${kind}_${id}`)
  }

  get backendMutex(): NamedMutex {
    return this.#open('Global\\gate-test_Backend')
  }

  #open(name: string): NamedMutex {
    const mutex = new NamedMutex(name, { directory: this.#locks })
    this.#mutexes.push(mutex)
    return mutex
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // On Windows the record of a mutex cannot be removed while it is open, and names live on for a moment after their files.
    for (const mutex of this.#mutexes) mutex.close()
    await rm(this.path, { recursive: true, force: true, maxRetries: 6 })
  }
}
