// A models folder, a server that is also the hub, and a gate between them. Nobody's own token or proxy is read.
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, beforeEach } from 'node:test'
import { LlamaModelGate } from 'os-mutex/llama'
import { GateFolder } from './gate-folder.ts'
import { ModelServer } from './model-server.ts'
import { makeTinyGguf, type TinyGguf } from './tiny-gguf.ts'

const KiB = 1024
const before = { ...process.env }
const ours = /^(HF_|(HTTPS?|ALL|NO)_PROXY$|MODEL_ENDPOINT$)/i

/**
 * For the top of a test file: every test begins without the variables that a download reads, and they come back at the
 * end.
 */
export function clearDownloadVariables(): void {
  beforeEach(() => {
    for (const name of Object.keys(process.env)) if (ours.test(name)) delete process.env[name]
  })
  after(() => {
    Object.assign(process.env, before)
  })
}

export class GateScene implements AsyncDisposable {
  readonly server: ModelServer
  readonly folder: GateFolder
  readonly gate: LlamaModelGate
  #models = 0

  private constructor(server: ModelServer, folder: GateFolder) {
    this.server = server
    this.folder = folder
    this.gate = new LlamaModelGate(folder.options)
  }

  /** The server is also the hub. Nobody's own token is read. */
  static async create(): Promise<GateScene> {
    const scene = new GateScene(await ModelServer.start(), await GateFolder.create())
    process.env.HF_ENDPOINT = scene.server.origin
    process.env.HF_HOME = scene.folder.path
    return scene
  }

  model(bytes = 256 * KiB): TinyGguf {
    this.#models++
    return makeTinyGguf({
      path: join(this.folder.path, `source-${this.#models}.gguf`),
      bytes,
      seed: this.#models,
    })
  }

  /** What the hub says about a tag. */
  tag(path: string, answer: unknown): string {
    const file = join(this.folder.path, `tag-${path.replaceAll('/', '-')}.json`)
    writeFileSync(file, JSON.stringify(answer))
    const at = `/v2/${path}`
    this.server.serve(at, file)
    return at
  }

  get files(): string[] {
    return readdirSync(this.folder.models).filter((name) => !name.startsWith('.'))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close()
    await this.folder[Symbol.asyncDispose]()
  }
}
