// A load after a loader's death: a look that costs nothing, and a hash only of what differs from its manifest.
import assert from 'node:assert/strict'
import { readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { ReportedProgress } from 'os-mutex'
import { LlamaModelGate, type ModelLoadError } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { GateProcess } from '../support/gate-process.ts'
import { ModelServer } from '../support/model-server.ts'
import { StubLlama } from '../support/stub-llama.ts'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'

const { MutexLock } = (await import(
  new URL('./mutex/mutex-lock.js', import.meta.resolve('os-mutex')).href
)) as typeof import('../../dist/mutex/mutex-lock.js')

/** All that this process reports to those who wait. */
const reports: ReportedProgress[] = []
const { report } = MutexLock.prototype
MutexLock.prototype.report = function (progress) {
  reports.push(progress)
  report.call(this, progress)
}

class Scene implements AsyncDisposable {
  readonly stub = new StubLlama({ load: async () => ({}) })
  readonly models: TinyGguf[]
  readonly #folder: GateFolder
  readonly #server: ModelServer

  private constructor(folder: GateFolder, server: ModelServer, parts: number, bytes: number) {
    this.#folder = folder
    this.#server = server
    this.models = Array.from({ length: parts }, (_, index) =>
      makeTinyGguf({ path: join(folder.path, `source-${index}.gguf`), bytes, seed: index + 1 }),
    )
  }

  static async create({ parts = 1, bytes = 1024 * 1024 } = {}): Promise<Scene> {
    return new Scene(await GateFolder.create(), await ModelServer.start(), parts, bytes)
  }

  /** Publishes the model, and lets a process die that is loading it. Returns the paths of its parts. */
  async abandoned(): Promise<string[]> {
    const name = (index: number) =>
      this.models.length === 1 ? 'a.gguf' : `a-0000${index + 1}-of-0000${this.models.length}.gguf`
    const urls = this.models.map(({ path }, index) => this.#server.serve(`/${name(index)}`, path))
    const file = await new LlamaModelGate(this.#folder.options).ensureModel(urls[0] ?? '')
    await using loader = await GateProcess.start(this.#folder.options)
    loader.loadModel({ modelPath: file.path }, 'load')
    await loader.frozen()
    await loader.kill()
    reports.length = 0
    return file.parts?.map(({ path }) => path) ?? [file.path]
  }

  async load(modelPath: string): Promise<void> {
    await new LlamaModelGate(this.#folder.options).loadModel(this.stub.llama, { modelPath })
  }

  /** The load is refused, and the one after it, which no death precedes, looks no more. */
  async refuses(modelPath: string, damagedPath: string): Promise<ModelLoadError> {
    let refusal: ModelLoadError | undefined
    await assert.rejects(this.load(modelPath), (error: ModelLoadError) => {
      refusal = error
      assert.deepEqual([error.code, error.path], ['ERR_MODEL_DAMAGED', damagedPath])
      return true
    })
    assert.equal(this.stub.loads, 0)
    await this.load(modelPath)
    assert.ok(refusal)
    return refusal
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.close()
    await this.#folder[Symbol.asyncDispose]()
  }
}

/** Changes a byte in the middle of the file's tensors. */
function damage(path: string): void {
  const content = readFileSync(path)
  content[content.length / 2] = ~(content[content.length / 2] ?? 0)
  writeFileSync(path, content)
}

test('a file that has the size, mtime and structure of its manifest is not hashed', async () => {
  await using scene = await Scene.create()
  const [path = ''] = await scene.abandoned()
  const { atime, mtime, mtimeMs } = statSync(path)
  // Only a hash would see it.
  damage(path)
  utimesSync(path, atime, mtime)
  const manifest = join(path, '..', '.a.gguf.os-mutex.json')
  writeFileSync(
    manifest,
    JSON.stringify({ ...JSON.parse(readFileSync(manifest, 'utf8')), mtimeMs: statSync(path).mtimeMs }),
  )
  assert.ok(Math.abs(statSync(path).mtimeMs - mtimeMs) < 1)
  await scene.load(path)
  assert.deepEqual(reports, [])
})

test('one of another mtime is hashed, and those who wait see how far that is', async () => {
  await using scene = await Scene.create({ bytes: 32 * 1024 * 1024 })
  const [path = ''] = await scene.abandoned()
  utimesSync(path, 1_000_000_000, 1_000_000_000)
  await scene.load(path)
  assert.ok(reports.length > 0)
  for (const { done, total, unit } of reports) {
    assert.deepEqual([total, unit], [scene.models[0]?.bytes, 'bytes'])
    assert.ok(done <= (total ?? 0))
  }
})

test('one that is not what was published is refused, once', async () => {
  await using scene = await Scene.create()
  const [path = ''] = await scene.abandoned()
  damage(path)
  utimesSync(path, 1_000_000_000, 1_000_000_000)
  const { message, reason } = await scene.refuses(path, path)
  assert.match(reason ?? '', /SHA-256/)
  assert.match(message, /died.*Delete it and download it again/)
})

test('one that lacks its end is refused, whatever its manifest says', async () => {
  await using scene = await Scene.create()
  const [path = ''] = await scene.abandoned()
  truncateSync(path, statSync(path).size / 2)
  assert.match((await scene.refuses(path, path)).reason ?? '', /its tensors need/)
})

for (const part of [0, 1, 2]) {
  test(`of a split model all parts are looked at: part ${part + 1}`, async () => {
    await using scene = await Scene.create({ parts: 3 })
    const paths = await scene.abandoned()
    truncateSync(paths[part] ?? '', 300_000)
    await scene.refuses(paths[0] ?? '', paths[part] ?? '')
  })
}

test('of a split model the parts that differ are hashed, with one progress', async () => {
  await using scene = await Scene.create({ parts: 3 })
  const paths = await scene.abandoned()
  for (const path of paths.slice(1)) utimesSync(path, 1_000_000_000, 1_000_000_000)
  await scene.load(paths[0] ?? '')
  const whole = scene.models.slice(1).reduce((sum, { bytes }) => sum + bytes, 0)
  assert.deepEqual([...new Set(reports.map(({ total }) => total))], [whole])
})
