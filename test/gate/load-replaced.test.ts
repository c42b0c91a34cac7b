// load: what is loaded is what ensureModel answered, though another program may put another file under its name.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { copyFileSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { LlamaModelGate, type LoadOptions, type ModelSource } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { ModelServer } from '../support/model-server.ts'
import { StubLlama } from '../support/stub-llama.ts'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'

const hashOf = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')

/** The paths of all parts that llama.cpp would read. */
function partsOf(path: string): string[] {
  const parts = Number(/-of-(\d{5})\.gguf$/.exec(path)?.[1] ?? 1)
  if (parts === 1) return [path]
  return Array.from({ length: parts }, (_, index) =>
    path.replace(/-\d{5}-of/, `-${String(index + 1).padStart(5, '0')}-of`),
  )
}

class Scene implements AsyncDisposable {
  readonly folder: GateFolder
  readonly server: ModelServer
  readonly gate: LlamaModelGate
  readonly stub: StubLlama
  /** Hashes of what each load read. */
  readonly loaded: string[][] = []
  /** Called with the model's path in the middle of each load: after its files were read, or before. */
  duringLoad: (path: string) => void = () => {}
  readsFirst = true
  #models = 0

  private constructor(folder: GateFolder, server: ModelServer) {
    this.folder = folder
    this.server = server
    this.gate = new LlamaModelGate(folder.options)
    this.stub = new StubLlama({
      load: async ({ modelPath }) => {
        if (!this.readsFirst) this.duringLoad(modelPath)
        this.loaded.push(partsOf(modelPath).map(hashOf))
        if (this.readsFirst) this.duringLoad(modelPath)
        return {}
      },
    })
  }

  static async create(): Promise<Scene> {
    return new Scene(await GateFolder.create(), await ModelServer.start())
  }

  model(bytes = 512 * 1024): TinyGguf {
    this.#models++
    return makeTinyGguf({ path: join(this.folder.path, `source-${this.#models}.gguf`), bytes, seed: this.#models })
  }

  /** Another file under that name in one step, as any program may put it there. */
  replace(path: string, by: TinyGguf): void {
    const draft = join(dirname(path), `draft-of-${basename(path)}`)
    copyFileSync(by.path, draft)
    renameSync(draft, path)
  }

  /** The load waits for its turn while `meanwhile` runs. */
  async loadAfter(source: ModelSource, path: string, meanwhile: () => Promise<void> | void): Promise<void> {
    const loading = await this.folder.mutex('Model', path).acquire({ purpose: 'test' })
    let waits = 0
    const options: LoadOptions = {
      onWait: () => {
        waits++
        setImmediate(async () => {
          await meanwhile()
          loading.release()
        })
      },
    }
    await this.gate.load(this.stub.llama, source, options)
    assert.equal(waits, 1)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close()
    await this.folder[Symbol.asyncDispose]()
  }
}

test('a file that was replaced while the load waited for its turn is got again', async () => {
  await using scene = await Scene.create()
  const [mine, other] = [scene.model(), scene.model()]
  const source = { url: scene.server.serve('/a.gguf', mine.path), sha256: mine.sha256 }
  const { path } = await scene.gate.ensureModel(source)
  await scene.loadAfter(source, path, () => scene.replace(path, other))
  assert.deepEqual(scene.loaded, [[mine.sha256]])
})

test('so is one that another program published with a manifest, one that is gone and one that is no model', async () => {
  await using scene = await Scene.create()
  const [mine, other] = [scene.model(), scene.model()]
  const source = { url: scene.server.serve('/a.gguf', mine.path), sha256: mine.sha256 }
  const { path } = await scene.gate.ensureModel(source)
  const theirs = new LlamaModelGate({ ...scene.folder.options, modelsDirectory: join(scene.folder.path, 'theirs') })
  const published = await theirs.ensureModel({ url: scene.server.serve('/b/a.gguf', other.path) })
  const manifestOf = (path: string) => join(dirname(path), `.${basename(path)}.os-mutex.json`)
  await scene.loadAfter(source, path, () => {
    renameSync(manifestOf(published.path), manifestOf(path))
    renameSync(published.path, path)
  })
  // The other one keeps the name; this one has another now.
  assert.equal(hashOf(path), other.sha256)
  const distinct = (await scene.gate.ensureModel(source)).path
  assert.notEqual(distinct, path)
  await scene.loadAfter(source, distinct, () => rmSync(distinct))
  await scene.loadAfter(source, distinct, () => copyFileSync(process.execPath, distinct))
  assert.deepEqual(scene.loaded, [[mine.sha256], [mine.sha256], [mine.sha256]])
})

test('of a split model every part is compared', async () => {
  await using scene = await Scene.create()
  const parts = [scene.model(), scene.model(), scene.model()]
  const urls = parts.map(({ path }, index) => scene.server.serve(`/m-0000${index + 1}-of-00003.gguf`, path))
  const source = urls[0] ?? ''
  const file = await scene.gate.ensureModel(source)
  await scene.loadAfter(source, file.path, () => scene.replace(file.parts?.[2]?.path ?? '', scene.model()))
  assert.deepEqual(scene.loaded, [parts.map(({ sha256 }) => sha256)])
})

for (const readsFirst of [true, false]) {
  const when = readsFirst ? 'after it was read' : 'before it was read'
  test(`a model whose file is replaced during its load, ${when}, is disposed of and loaded again`, async () => {
    await using scene = await Scene.create()
    const [mine, other] = [scene.model(), scene.model()]
    const source = { url: scene.server.serve('/a.gguf', mine.path), sha256: mine.sha256 }
    scene.readsFirst = readsFirst
    scene.duringLoad = (path) => {
      scene.duringLoad = () => {}
      scene.replace(path, other)
    }
    await scene.gate.load(scene.stub.llama, source)
    assert.equal(scene.loaded.length, 2)
    assert.deepEqual(scene.loaded.at(-1), [mine.sha256])
    assert.equal(scene.stub.models, 1)
  })
}

test('the same bytes under another inode are loaded again, since nobody saw what was read', async () => {
  await using scene = await Scene.create()
  const mine = scene.model()
  const source = { url: scene.server.serve('/a.gguf', mine.path), sha256: mine.sha256 }
  scene.duringLoad = (path) => {
    scene.duringLoad = () => {}
    const { ino } = statSync(path)
    scene.replace(path, mine)
    assert.notEqual(statSync(path).ino, ino)
  }
  await scene.gate.load(scene.stub.llama, source)
  assert.deepEqual([scene.loaded.length, scene.stub.models], [2, 1])
})

test('a load that fails because its file was replaced is tried again', async () => {
  await using scene = await Scene.create()
  const mine = scene.model()
  const source = { url: scene.server.serve('/a.gguf', mine.path), sha256: mine.sha256 }
  scene.duringLoad = (path) => {
    scene.duringLoad = () => {}
    copyFileSync(process.execPath, path)
    throw new Error('Failed to load model')
  }
  await scene.gate.load(scene.stub.llama, source)
  assert.deepEqual(scene.loaded.at(-1), [mine.sha256])
})

test('when its file is replaced by each load, load gives up with a code, and keeps no model and no lock', async () => {
  await using scene = await Scene.create()
  const [mine, other] = [scene.model(), scene.model()]
  const source = { url: scene.server.serve('/a.gguf', mine.path), sha256: mine.sha256 }
  const paths: string[] = []
  scene.duringLoad = (path) => {
    paths.push(path)
    scene.replace(path, other)
  }
  await assert.rejects(scene.gate.load(scene.stub.llama, source), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'ERR_MODEL_REPLACED')
    assert.match(error.message, /fileName/)
    return true
  })
  assert.deepEqual([paths.length, scene.stub.models], [2, 0])
  for (const path of paths) assert.equal(scene.folder.mutex('Model', path).query().held, false)
})

test("a file of the user's own is loaded with and without its hash, at the first try", async () => {
  await using scene = await Scene.create()
  const mine = scene.model()
  await scene.gate.load(scene.stub.llama, mine.path)
  await scene.gate.load(scene.stub.llama, { url: mine.path, sha256: mine.sha256 })
  assert.deepEqual(scene.loaded, [[mine.sha256], [mine.sha256]])
})
