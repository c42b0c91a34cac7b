// ensureModel: one download of a file at a time on the machine; the others wait, see its progress and get its file.
import assert from 'node:assert/strict'
import { existsSync, readdirSync } from 'node:fs'
import { readdir, readFile, rename, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { type DownloadProgress, LlamaModelGate, type ModelProgress } from 'os-mutex/llama'
import { partialsIn } from '../support/download-folder.ts'
import { holdFile } from '../support/download-internals.ts'
import { GateFolder } from '../support/gate-folder.ts'
import { withFolderLinks } from '../support/gate-links.ts'
import { GateProcess } from '../support/gate-process.ts'
import { ModelServer, type ModelServerOptions } from '../support/model-server.ts'
import { withTerminate } from '../support/runtimes.ts'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'
import { until } from '../support/until.ts'

const MEBIBYTE = 1024 * 1024

/** Changes a byte of the published file in a way that neither its size nor its mtime gives away. */
async function damage(folder: string): Promise<void> {
  const path = join(folder, 'a.gguf')
  const content = await readFile(path)
  content[content.length / 2] = ~(content[content.length / 2] ?? 0)
  await writeFile(path, content)
  const manifest = join(folder, '.a.gguf.os-mutex.json')
  const { mtimeMs } = await stat(path)
  await writeFile(manifest, JSON.stringify({ ...JSON.parse(await readFile(manifest, 'utf8')), mtimeMs }))
}

/** A second for the whole file: enough to be seen under way. */
const SLOWLY = { bytesPerSecond: 4 * MEBIBYTE }

class Scene implements AsyncDisposable {
  readonly server: ModelServer
  readonly folder: GateFolder
  readonly model: TinyGguf
  readonly url: string
  readonly #children: GateProcess[] = []

  private constructor(server: ModelServer, folder: GateFolder) {
    this.server = server
    this.folder = folder
    this.model = makeTinyGguf({ path: join(folder.path, 'source.gguf'), bytes: 4 * MEBIBYTE })
    this.url = server.serve('/a.gguf', this.model.path)
  }

  static async create(server: ModelServerOptions = {}): Promise<Scene> {
    return new Scene(await ModelServer.start(server), await GateFolder.create())
  }

  /** Where the file is published. */
  get path(): string {
    return join(this.folder.models, 'a.gguf')
  }

  get isLocked(): boolean {
    return this.folder.mutex('Download', this.path).query().held
  }

  /** The names of the models whose folder's lock somebody holds. */
  get heldInFolder(): string[] {
    const locks = join(this.folder.models, '.locks')
    if (!existsSync(locks)) return []
    return readdirSync(locks).filter((name) => {
      const hold = holdFile(join(locks, name))
      if (typeof hold === 'string') return hold === 'taken'
      hold.release()
      return false
    })
  }

  async child(options = this.folder.options): Promise<GateProcess> {
    const child = await GateProcess.start(options)
    this.#children.push(child)
    return child
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map((child) => child.kill()))
    await this.server.close()
    await this.folder[Symbol.asyncDispose]()
  }
}

test('six processes that want one model make one download, and all get the same file', async () => {
  await using scene = await Scene.create(SLOWLY)
  const { server, model, url } = scene
  const children = await Promise.all(Array.from({ length: 6 }, () => scene.child()))
  server.pause('/a.gguf', model.bytes / 2)
  const calls = children.map((child) => child.ensureModel(url))
  await Promise.all(calls.map((call) => call.seenProgress(({ done }) => done >= model.bytes / 4)))
  server.resume('/a.gguf')

  const files = await Promise.all(calls.map((call) => call.result))
  for (const file of files) {
    assert.equal(file.sha256, model.sha256)
    assert.equal(file.path, scene.path)
  }
  assert.equal(files.filter((file) => !file.cached).length, 1)
  assert.equal(server.bytesServed('/a.gguf'), model.bytes)
  assert.deepEqual(await readFile(scene.path), await readFile(model.path))
  assert.equal(scene.isLocked, false)
})

test('those who wait see who downloads and how far it is, up to the end', async () => {
  await using scene = await Scene.create(SLOWLY)
  const { server, model, url } = scene
  const owner = await scene.child()
  const waiter = await scene.child()
  server.pause('/a.gguf', model.bytes / 2)
  const owning = owner.ensureModel(url)
  await owning.seenProgress(({ phase }) => phase === 'downloading')
  const waiting = waiter.ensureModel(url)
  const seen = await waiting.seenProgress(({ done }) => done >= model.bytes / 4)
  assert.ok(seen.is === 'progress' && seen.progress.phase === 'waiting')
  assert.equal(seen.progress.owner?.pid, owner.pid)
  assert.equal(seen.progress.owner?.purpose, 'download a.gguf')
  assert.equal(seen.progress.total, model.bytes)
  assert.ok((seen.progress.bytesPerSecond ?? 0) > 0)
  server.resume('/a.gguf')
  await waiting.result

  const last = waiting.progress.at(-1)
  assert.deepEqual([last?.phase, last?.done, last?.total], ['waiting', model.bytes, model.bytes])
  assert.ok(waiting.progress.every(({ phase }) => phase === 'waiting'))
})

test('when the owner is killed in mid-download, the next waiter goes on where it stopped', async () => {
  await using scene = await Scene.create(SLOWLY)
  const { server, model, url } = scene
  const owner = await scene.child()
  const waiter = await scene.child()
  server.pause('/a.gguf', model.bytes / 2)
  const doomed = owner.ensureModel(url)
  await doomed.seenProgress(({ phase, done }) => phase === 'downloading' && done >= model.bytes / 4)
  const waiting = waiter.ensureModel(url)
  await waiting.seenProgress(({ phase }) => phase === 'waiting')
  await owner.kill()
  server.resume('/a.gguf')

  const file = await waiting.result
  assert.equal(file.sha256, model.sha256)
  assert.ok(file.resumedBytes >= model.bytes / 4)
  assert.equal(file.downloadedBytes, model.bytes - file.resumedBytes)
  assert.deepEqual(await readFile(scene.path), await readFile(model.path))
})

test('a file whose owner died before releasing is verified before anybody gets it', async () => {
  await using scene = await Scene.create()
  const { server, model, url } = scene
  const owner = await scene.child()
  const waiter = await scene.child()
  server.pause('/a.gguf', model.bytes / 2)
  const doomed = owner.ensureModel(url)
  await doomed.seenProgress(({ phase }) => phase === 'downloading')
  const waiting = waiter.ensureModel(url)
  await waiting.seenProgress(({ phase }) => phase === 'waiting')

  // As if the owner had published the file and died right then, with a disk that lost a byte.
  const elsewhere = join(scene.folder.path, 'elsewhere')
  await owner.freeze()
  server.resume('/a.gguf')
  await new LlamaModelGate({ ...scene.folder.options, modelsDirectory: elsewhere }).ensureModel(url)
  await damage(elsewhere)
  for (const name of ['a.gguf', '.a.gguf.os-mutex.json']) {
    await rename(join(elsewhere, name), join(scene.folder.models, name))
  }
  await owner.kill()

  assert.equal((await waiting.result).sha256, model.sha256)
  assert.deepEqual(await readFile(scene.path), await readFile(model.path))
})

test('a file that is there is answered without a lock and without a request', async () => {
  await using scene = await Scene.create()
  const gate = new LlamaModelGate(scene.folder.options)
  await gate.ensureModel(scene.url)
  const requests = scene.server.requests('/a.gguf').length

  using _held = await scene.folder.mutex('Download', scene.path).acquire()
  const file = await gate.ensureModel(scene.url)
  assert.equal(file.cached, true)
  assert.equal(file.sha256, scene.model.sha256)
  assert.equal(scene.server.requests('/a.gguf').length, requests)
})

test('a folder named by a link is the same folder', withFolderLinks, async () => {
  await using scene = await Scene.create()
  const link = join(scene.folder.path, 'link')
  await symlink(scene.folder.models, link, 'junction')
  const child = await scene.child({ ...scene.folder.options, modelsDirectory: link })
  const held = await scene.folder.mutex('Download', scene.path).acquire()
  const call = child.ensureModel(scene.url)
  await call.seenProgress(({ phase }) => phase === 'waiting')
  held.release()
  assert.equal((await call.result).sha256, scene.model.sha256)
})

test('a waiter that gives up by its signal leaves the download and the lock alone', async () => {
  await using scene = await Scene.create()
  const { server, model, url } = scene
  const owner = await scene.child()
  const waiter = await scene.child()
  server.pause('/a.gguf', model.bytes / 2)
  const owning = owner.ensureModel(url)
  await owning.seenProgress(({ phase }) => phase === 'downloading')
  const waiting = waiter.ensureModel(url)
  await waiting.seenProgress(({ phase }) => phase === 'waiting')
  waiting.abort()
  await assert.rejects(waiting.result, { message: 'aborted by the test' })

  server.resume('/a.gguf')
  assert.equal((await owning.result).sha256, model.sha256)
  assert.equal(scene.isLocked, false)
  assert.ok(waiting.progress.every(({ phase }) => phase === 'waiting'))
})

test('an owner that gives up by its signal hands its part to the next waiter', async () => {
  await using scene = await Scene.create(SLOWLY)
  const { server, model, url } = scene
  const owner = await scene.child()
  const waiter = await scene.child()
  server.pause('/a.gguf', model.bytes / 2)
  const owning = owner.ensureModel(url)
  await owning.seenProgress(({ done }) => done >= model.bytes / 4)
  const waiting = waiter.ensureModel(url)
  await waiting.seenProgress(({ phase }) => phase === 'waiting')
  owning.abort()
  await assert.rejects(owning.result, { message: 'aborted by the test' })

  await server.idle('/a.gguf')
  const servedToTheFirst = server.bytesServed('/a.gguf')
  server.resume('/a.gguf')
  const file = await waiting.result
  assert.equal(file.sha256, model.sha256)
  assert.ok(file.resumedBytes >= model.bytes / 4)
  assert.equal(server.bytesServed('/a.gguf'), servedToTheFirst + model.bytes - file.resumedBytes)
})

test('the download is unlocked before the load begins', async () => {
  await using scene = await Scene.create()
  const big = makeTinyGguf({ path: scene.model.path, bytes: 64 * MEBIBYTE })
  scene.server.serve('/a.gguf', big.path)
  const child = await scene.child()
  const call = child.load(scene.url, {}, 'load')
  await child.frozen()
  assert.equal(child.loads[0]?.toMs, Infinity)
  assert.equal(scene.isLocked, false)
  assert.equal(scene.folder.mutex('Model', scene.path).query().held, true)
  child.thaw()
  assert.ok((await call.result).tokens > 0)
})

test('a published file that was changed is found out by the load that follows a load that died', async () => {
  await using scene = await Scene.create()
  const big = makeTinyGguf({ path: scene.model.path, bytes: 64 * MEBIBYTE })
  scene.server.serve('/a.gguf', big.path)
  await new LlamaModelGate(scene.folder.options).ensureModel(scene.url)
  const owner = await scene.child()
  const waiter = await scene.child()
  owner.loadModel({ modelPath: scene.path }, 'load')
  await owner.frozen()
  const waiting = waiter.loadModel({ modelPath: scene.path })
  await waiting.seen((message) => message.is === 'wait')
  await damage(scene.folder.models)
  await utimes(scene.path, 1_000_000_000, 1_000_000_000)
  await owner.kill()

  await assert.rejects(waiting.result, { code: 'ERR_MODEL_DAMAGED', path: scene.path })
  assert.deepEqual(waiter.loads, [])
  assert.equal(scene.folder.mutex('Model', scene.path).query().held, false)
})

test('one signal ends load, whichever of its steps is running', async () => {
  await using scene = await Scene.create()
  const big = makeTinyGguf({ path: scene.model.path, bytes: 64 * MEBIBYTE })
  scene.server.serve('/a.gguf', big.path)
  const child = await scene.child()
  scene.server.pause('/a.gguf', big.bytes / 2)
  const downloading = child.load(scene.url)
  await downloading.seenProgress(({ phase }) => phase === 'downloading')
  downloading.abort()
  await assert.rejects(downloading.result, { message: 'aborted by the test' })
  assert.equal(scene.isLocked, false)

  scene.server.resume('/a.gguf')
  const loading = child.load(scene.url, { useMmap: false })
  await child.seen((message) => message.is === 'load')
  loading.abort()
  await assert.rejects(loading.result, { message: 'aborted by the test' })
  assert.equal(scene.folder.mutex('Model', scene.path).query().held, false)
})

for (const [title, prepare, source, code] of [
  ['a web page', (server: ModelServer) => server.fault('/a.gguf', { kind: 'html' }), {}, 'ERR_MODEL_NOT_GGUF'],
  [
    'a 404',
    (server: ModelServer) => server.fault('/a.gguf', { kind: 'status', status: 404 }),
    {},
    'ERR_MODEL_HTTP_STATUS',
  ],
  ['a wrong hash', () => {}, { sha256: '0'.repeat(64) }, 'ERR_MODEL_HASH_MISMATCH'],
  ['a wrong size', () => {}, { bytes: 1000 }, 'ERR_MODEL_SIZE_MISMATCH'],
  ['a name that leaves the folder', () => {}, { fileName: '../a.gguf' }, 'ERR_MODEL_INVALID_SOURCE'],
] as const) {
  test(`${title} fails with ${code}, for all who asked, and leaves no lock and no model`, async () => {
    await using scene = await Scene.create()
    prepare(scene.server)
    const gate = new LlamaModelGate(scene.folder.options)
    const calls = [1, 2].map(() => gate.ensureModel({ url: scene.url, ...source }))
    await Promise.all(calls.map((call) => assert.rejects(call, { name: 'ModelDownloadError', code })))
    assert.equal(scene.isLocked, false)
    // But for the beginning of one that came whole and is wrong: that is set aside.
    const left = (await readdir(scene.folder.models)).filter((name) => !name.endsWith('.os-mutex-rejected'))
    assert.deepEqual(left, code === 'ERR_MODEL_INVALID_SOURCE' ? [] : ['.locks'])
    assert.deepEqual(scene.heldInFolder, [])
  })
}

test('a models folder that cannot be made is told by its name', async () => {
  await using scene = await Scene.create()
  const file = join(scene.folder.path, 'file')
  await writeFile(file, '')
  const gate = new LlamaModelGate({ ...scene.folder.options, modelsDirectory: join(file, 'models') })
  await assert.rejects(gate.ensureModel(scene.url), { code: 'ERR_MODEL_FILE_SYSTEM', path: join(file, 'models') })
})

test(
  'what a worker thread had received when it was terminated is resumed by its own process',
  withTerminate,
  async () => {
    await using scene = await Scene.create()
    scene.server.pause('/a.gguf', scene.model.bytes / 2)
    const workerData = { options: scene.folder.options, url: scene.url }
    const worker = new Worker(new URL('../support/gate-thread.js', import.meta.url), { workerData })
    const partialBytes = () => partialsIn(scene.folder.models)[0]?.bytes
    await until('half of it is there', () => partialBytes() === scene.model.bytes / 2)
    await worker.terminate()
    scene.server.resume('/a.gguf')
    const file = await new LlamaModelGate(scene.folder.options).ensureModel(scene.url)
    assert.equal(file.sha256, scene.model.sha256)
    assert.equal(file.resumedBytes, scene.model.bytes / 2)
    assert.deepEqual((await readdir(scene.folder.models)).sort(), ['.a.gguf.os-mutex.json', '.locks', 'a.gguf'])
  },
)

test('a download that stands still tells what came last, and that nothing comes', async () => {
  await using scene = await Scene.create()
  const half = scene.model.bytes / 2
  scene.server.pause('/a.gguf', half)
  const gate = new LlamaModelGate(scene.folder.options)
  const seen: ModelProgress[] = []
  const file = await gate.ensureModel(scene.url, {
    onProgress: (progress) => {
      seen.push(progress)
      const [before, last] = seen.slice(-2).map((event) => event as DownloadProgress)
      if (last?.done === half && before?.bytesPerSecond && !last.bytesPerSecond) scene.server.resume('/a.gguf')
    },
  })
  assert.equal(file.sha256, scene.model.sha256)
})

test('what onProgress throws of a download that stands still ends it', async () => {
  await using scene = await Scene.create()
  scene.server.pause('/a.gguf', scene.model.bytes / 2)
  const gate = new LlamaModelGate(scene.folder.options)
  let count = 0
  const onProgress = ({ done }: ModelProgress) => {
    if (done === scene.model.bytes / 2 && ++count === 2) throw new Error('from the listener')
  }
  await assert.rejects(gate.ensureModel(scene.url, { onProgress }), { message: 'from the listener' })
  assert.equal(scene.isLocked, false)
})

test('what onProgress throws ends the call and frees the lock', async () => {
  await using scene = await Scene.create()
  const gate = new LlamaModelGate(scene.folder.options)
  const held = await scene.folder.mutex('Download', scene.path).acquire()
  const options = {
    onProgress: ({ done }: ModelProgress) => {
      if (done > 0) throw new Error('from the listener')
      held.report({ done: 1, unit: 'bytes' })
    },
  }
  await assert.rejects(gate.ensureModel(scene.url, options), { message: 'from the listener' })
  held.release()
  await assert.rejects(gate.ensureModel(scene.url, options), { message: 'from the listener' })
  assert.equal(scene.isLocked, false)
})
