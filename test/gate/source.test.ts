// What a model can be asked for by: a tag of the hub, all parts of a split model, a path; and what `fetch` and `mirrorTo` mean.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { type EnsureModelOptions, LlamaModelGate, type ModelProgress } from 'os-mutex/llama'
import { Agent } from 'undici'
import { GateFolder } from '../support/gate-folder.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'
import { until } from '../support/until.ts'

const KiB = 1024
const before = { ...process.env }
const ours = /^(HF_|HTTPS?_PROXY$|NO_PROXY$|MODEL_ENDPOINT$)/i

beforeEach(() => {
  for (const name of Object.keys(process.env)) if (ours.test(name)) delete process.env[name]
})
after(() => {
  Object.assign(process.env, before)
})

class Scene implements AsyncDisposable {
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
  static async create(): Promise<Scene> {
    const scene = new Scene(await ModelServer.start(), await GateFolder.create())
    process.env.HF_ENDPOINT = scene.server.origin
    process.env.HF_HOME = scene.folder.path
    return scene
  }

  model(): TinyGguf {
    this.#models++
    return makeTinyGguf({
      path: join(this.folder.path, `source-${this.#models}.gguf`),
      bytes: 256 * KiB,
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

test('a tag leads to the file that the hub names, and is remembered', async () => {
  await using scene = await Scene.create()
  const { server, gate } = scene
  process.env.HF_TOKEN = 'hf_secret'
  const model = scene.model()
  const asked = scene.tag('ann/Tiny-GGUF/manifests/Q4_K_M', { ggufFile: { rfilename: 'q4/tiny-q4_k_m.gguf' } })
  const path = '/ann/Tiny-GGUF/resolve/main/q4/tiny-q4_k_m.gguf'
  server.serve(path, model.path)
  const file = await gate.ensureModel('hf:ann/Tiny-GGUF:Q4_K_M')
  assert.equal(file.path, join(scene.folder.models, 'hf_ann_Tiny.Q4_K_M.gguf'))
  assert.equal(file.sha256, model.sha256)
  assert.equal(server.requests(asked)[0]?.headers['user-agent'], 'llama-cpp')
  assert.equal(server.requests(asked)[0]?.headers.authorization, 'Bearer hf_secret')
  assert.equal(server.requests(path)[0]?.headers.authorization, 'Bearer hf_secret')

  process.env.HF_HUB_OFFLINE = '1'
  for (const options of [{}, { fetch: 'never' }] satisfies EnsureModelOptions[]) {
    assert.deepEqual((await gate.ensureModel('hf:ann/Tiny-GGUF:Q4_K_M', options)).cached, true)
  }
  assert.equal(
    (await gate.ensureModel('hf:ann/Tiny-GGUF/q4/tiny-q4_k_m.gguf', { fetch: 'if-missing' }).catch((e) => e)).code,
    'ERR_MODEL_NOT_FOUND',
  )
  assert.deepEqual([server.requests(asked).length, server.requests(path).length], [1, 1])
  const kept = readdirSync(scene.folder.models).map((name) => readFileSync(join(scene.folder.models, name), 'latin1'))
  assert.ok(!kept.some((text) => text.includes('hf_secret')))
})

test('a repository without a tag, by any way of writing it, is the file that the hub recommends', async () => {
  await using scene = await Scene.create()
  const model = scene.model()
  scene.tag('ann/tiny/manifests/latest', { ggufFile: { rfilename: 'tiny.Q4_K_M.gguf' } })
  scene.server.serve('/ann/tiny/resolve/main/tiny.Q4_K_M.gguf', model.path)
  for (const source of ['hf:ann/tiny', 'hf://ann/tiny', 'huggingface:ann/tiny', `${scene.server.origin}/ann/tiny`]) {
    const file = await scene.gate.ensureModel(source)
    assert.equal(file.sha256, model.sha256, source)
    assert.equal(file.path, join(scene.folder.models, 'hf_ann_tiny_tiny.Q4_K_M.gguf'))
  }
  const page = await scene.gate.ensureModel(`${scene.server.origin}/ann/tiny/blob/main/tiny.Q4_K_M.gguf`)
  assert.equal(page.sha256, model.sha256)
})

test('`always` asks for a tag again, and follows it to another file', async () => {
  await using scene = await Scene.create()
  const [one, two] = [scene.model(), scene.model()]
  scene.server.serve('/ann/tiny/resolve/main/one.gguf', one.path)
  scene.server.serve('/ann/tiny/resolve/main/two.gguf', two.path)
  scene.tag('ann/tiny/manifests/Q8_0', { ggufFile: { rfilename: 'one.gguf' } })
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0')).sha256, one.sha256)
  scene.tag('ann/tiny/manifests/Q8_0', { ggufFile: { rfilename: 'two.gguf' } })
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0')).sha256, one.sha256)
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0', { fetch: 'always' })).sha256, two.sha256)
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0')).sha256, two.sha256)
})

test('a tag that the hub does not have, or answers with something else, is an error', async () => {
  await using scene = await Scene.create()
  await assert.rejects(scene.gate.ensureModel('hf:ann/tiny:Q9'), {
    code: 'ERR_MODEL_HTTP_STATUS',
    status: 404,
    message: /the hub has no ann\/tiny with a file Q9/,
  })
  const wrong = [
    {},
    { ggufFile: null },
    { ggufFile: { rfilename: '../../x.gguf' } },
    { ggufFile: { rfilename: '' } },
    'x',
    null,
  ]
  for (const answer of wrong) {
    scene.tag('ann/tiny/manifests/Q8_0', answer)
    await assert.rejects(scene.gate.ensureModel('hf:ann/tiny:Q8_0'), { code: 'ERR_MODEL_BAD_RESPONSE' })
  }
  await assert.rejects(scene.gate.ensureModel('hf:ann/tiny:Q8_0', { fetch: 'never' }), { code: 'ERR_MODEL_NOT_FOUND' })
  assert.deepEqual(readdirSync(scene.folder.models), [])
})

test('a split model comes whole, under one lock, with one progress, whichever part is named', async () => {
  await using scene = await Scene.create()
  const parts = [scene.model(), scene.model(), scene.model()]
  const nameOf = (index: number) => `big-0000${index + 1}-of-00003.gguf`
  const urls = parts.map((part, index) => scene.server.serve(`/${nameOf(index)}`, part.path))
  const events: ModelProgress[] = []
  const file = await scene.gate.ensureModel(urls[1] ?? '', { onProgress: (event) => events.push(event) })
  assert.equal(file.path, join(scene.folder.models, nameOf(0)))
  assert.equal(file.sha256, undefined)
  assert.deepEqual(
    file.parts?.map(({ path, sha256 }) => [path, sha256]),
    parts.map(({ sha256 }, index) => [join(scene.folder.models, nameOf(index)), sha256]),
  )
  const whole = parts.reduce((sum, { bytes }) => sum + bytes, 0)
  assert.equal(file.bytes, whole)
  // From phase to phase it may fall: what is here need not be hashed yet.
  const falls = events.filter(
    ({ done, phase }, at) => phase === events[at - 1]?.phase && done < (events[at - 1]?.done ?? 0),
  )
  assert.deepEqual(falls, [])
  assert.ok(events.every(({ total }) => total === whole))
  assert.equal(events.at(-1)?.done, whole)
  const asked = urls.map((_, index) => scene.server.requests(`/${nameOf(index)}`).length)
  assert.equal((await scene.gate.ensureModel(urls[0] ?? '')).cached, true)
  assert.deepEqual(
    urls.map((_, index) => scene.server.requests(`/${nameOf(index)}`).length),
    asked,
  )
})

test('of a split model only what is missing is fetched, and a missing part is an error that loses nothing', async () => {
  await using scene = await Scene.create()
  const parts = [scene.model(), scene.model()]
  const [first = '', second = ''] = ['/m-00001-of-00002.gguf', '/m-00002-of-00002.gguf']
  const url = scene.server.serve(first, parts[0]?.path ?? '')
  await assert.rejects(scene.gate.ensureModel(url), { code: 'ERR_MODEL_HTTP_STATUS', status: 404 })
  assert.deepEqual(scene.files, ['m-00001-of-00002.gguf'])
  scene.server.serve(second, parts[1]?.path ?? '')
  const served = scene.server.bytesServed(first)
  const file = await scene.gate.ensureModel(url)
  assert.equal(scene.server.bytesServed(first), served)
  assert.equal(file.downloadedBytes, parts[1]?.bytes)
  for (const given of [{ sha256: '0'.repeat(64) }, { bytes: 5 }]) {
    await assert.rejects(scene.gate.ensureModel({ url, ...given }), { code: 'ERR_MODEL_INVALID_SOURCE' })
  }
  const named = await scene.gate.ensureModel({ url, fileName: 'mine.gguf' })
  assert.equal(named.path, join(scene.folder.models, 'mine-00001-of-00002.gguf'))
})

test('a path is a source: absolute, a file: URL, or the bare name of a file in the models folder', async () => {
  await using scene = await Scene.create()
  const model = scene.model()
  const inside = makeTinyGguf({ path: join(scene.folder.models, 'here.gguf'), bytes: 256 * KiB, seed: 99 })
  for (const source of [model.path, pathToFileURL(model.path).href]) {
    const file = await scene.gate.ensureModel(source)
    assert.deepEqual([file.path, file.bytes, file.cached, file.sha256], [model.path, model.bytes, true, undefined])
  }
  assert.equal((await scene.gate.ensureModel('here.gguf')).path, inside.path)
  assert.equal((await scene.gate.ensureModel({ url: model.path, sha256: model.sha256 })).sha256, model.sha256)
  await assert.rejects(scene.gate.ensureModel({ url: model.path, sha256: inside.sha256 }), {
    code: 'ERR_MODEL_HASH_MISMATCH',
  })
  await assert.rejects(scene.gate.ensureModel({ url: model.path, bytes: 7 }), { code: 'ERR_MODEL_SIZE_MISMATCH' })
  await assert.rejects(scene.gate.ensureModel('gone.gguf'), {
    code: 'ERR_MODEL_NOT_FOUND',
    message: /a path is not downloaded/,
  })
  const text = join(scene.folder.path, 'text.gguf')
  writeFileSync(text, 'not a model')
  await assert.rejects(scene.gate.ensureModel(text), { code: 'ERR_MODEL_NOT_GGUF' })
  assert.equal(readFileSync(text, 'utf8'), 'not a model')
})

test('`always` replaces a file that is another on the server by now, and leaves the old one to whoever has it open', async () => {
  await using scene = await Scene.create()
  const [old, now] = [scene.model(), scene.model()]
  const url = scene.server.serve('/m.gguf', old.path)
  const first = await scene.gate.ensureModel(url)
  const served = scene.server.bytesServed('/m.gguf')
  assert.equal((await scene.gate.ensureModel(url, { fetch: 'always' })).cached, true)
  assert.equal(scene.server.bytesServed('/m.gguf'), served)
  const descriptor = process.platform === 'win32' ? undefined : openSync(first.path, 'r')
  scene.server.serve('/m.gguf', now.path)
  assert.equal((await scene.gate.ensureModel(url)).sha256, old.sha256)
  const second = await scene.gate.ensureModel(url, { fetch: 'always' })
  assert.deepEqual([second.cached, second.sha256], [false, now.sha256])
  assert.deepEqual(readFileSync(second.path), readFileSync(now.path))
  if (descriptor !== undefined) assert.deepEqual(readFileSync(descriptor), readFileSync(old.path))
})

test('`always` without a server keeps the file and says so', async () => {
  await using scene = await Scene.create()
  const url = scene.server.serve('/m.gguf', scene.model().path)
  await scene.gate.ensureModel(url)
  scene.server.fault('/m.gguf', { kind: 'cut-each', bytes: 0 })
  await scene.server.close()
  await assert.rejects(scene.gate.ensureModel(url, { fetch: 'always' }), { code: 'ERR_MODEL_NETWORK' })
  assert.equal((await scene.gate.ensureModel(url)).cached, true)
})

test('`never` asks no server', async () => {
  await using scene = await Scene.create()
  const model = scene.model()
  const url = scene.server.serve('/m.gguf', model.path)
  await assert.rejects(scene.gate.ensureModel(url, { fetch: 'never' }), {
    code: 'ERR_MODEL_NOT_FOUND',
    message: /fetch: 'never'/,
  })
  // One that is there and has the hash that is asked for needs no server.
  writeFileSync(join(scene.folder.models, 'm.gguf'), readFileSync(model.path))
  const file = await scene.gate.ensureModel({ url, sha256: model.sha256 }, { fetch: 'never' })
  assert.deepEqual([file.cached, file.sha256], [true, model.sha256])
  assert.equal(scene.server.requests('/m.gguf').length, 0)
})

test('`mirrorTo` is the same file at another path, made once', async () => {
  await using scene = await Scene.create()
  const model = scene.model()
  const url = scene.server.serve('/m.gguf', model.path)
  const mirrorTo = join(scene.folder.path, 'app', 'models', 'phi.gguf')
  const file = await scene.gate.ensureModel(url, { mirrorTo })
  const { ino, mtimeMs } = statSync(mirrorTo)
  assert.equal(ino, statSync(file.path).ino)
  await scene.gate.ensureModel(url, { mirrorTo })
  assert.deepEqual([statSync(mirrorTo).ino, statSync(mirrorTo).mtimeMs], [ino, mtimeMs])
  // What is there under that name is replaced, in one step.
  const other = join(scene.folder.path, 'other.gguf')
  writeFileSync(other, 'another file')
  await scene.gate.ensureModel(url, { mirrorTo: other })
  assert.deepEqual(readFileSync(other), readFileSync(model.path))
  assert.deepEqual(readdirSync(join(scene.folder.path, 'app', 'models')), ['phi.gguf'])
  await assert.rejects(scene.gate.ensureModel(url, { mirrorTo: scene.folder.models }), {
    code: 'ERR_MODEL_FILE_SYSTEM',
  })
})

test('where no link can be made, `mirrorTo` is a copy', {
  skip: process.platform !== 'linux' && 'needs a second file system at a known place',
}, async () => {
  await using scene = await Scene.create()
  const model = scene.model()
  const url = scene.server.serve('/m.gguf', model.path)
  const far = join('/dev/shm', `os-mutex-test-${process.pid}`)
  mkdirSync(far)
  try {
    assert.notEqual(statSync(far).dev, statSync(scene.folder.path).dev)
    const mirrorTo = join(far, 'm.gguf')
    await scene.gate.ensureModel(url, { mirrorTo })
    const { ino } = statSync(mirrorTo)
    assert.deepEqual(readFileSync(mirrorTo), readFileSync(model.path))
    await scene.gate.ensureModel(url, { mirrorTo })
    assert.equal(statSync(mirrorTo).ino, ino)
    assert.deepEqual(readdirSync(far), ['m.gguf'])
  } finally {
    rmSync(far, { recursive: true })
  }
})

test('`keepPartial: false` leaves nothing of a download that was given up', async () => {
  await using scene = await Scene.create()
  const partials = () => readdirSync(scene.folder.models).filter((name) => name.endsWith('.partial'))
  for (const keepPartial of [false, true]) {
    const path = `/${keepPartial}.gguf`
    const url = scene.server.serve(path, scene.model().path)
    scene.server.pause(path, 100 * KiB)
    const controller = new AbortController()
    const download = scene.gate.ensureModel(url, { keepPartial, signal: controller.signal })
    download.catch(() => {})
    // One without a byte is of no use to anyone, and never stays.
    const sizes = () => partials().map((name) => statSync(join(scene.folder.models, name)).size)
    await until('the partial has bytes', () => (sizes()[0] ?? 0) > KiB)
    const reason = new Error('enough')
    controller.abort(reason)
    await assert.rejects(download, (error) => error === reason)
    assert.equal(partials().length, keepPartial ? 1 : 0)
  }
})

test('the hub token is found where its own tools keep it', async () => {
  await using scene = await Scene.create()
  const model = scene.model()
  const file = join(scene.folder.path, 'elsewhere')
  writeFileSync(file, 'by-path\n')
  writeFileSync(join(scene.folder.path, 'token'), ' by-home ')
  const cases: [Record<string, string>, string][] = [
    [{ HF_TOKEN: 'by-name', HF_TOKEN_PATH: file }, 'Bearer by-name'],
    [{ HF_TOKEN_PATH: file }, 'Bearer by-path'],
    [{}, 'Bearer by-home'],
  ]
  for (const [index, [env, expected]] of cases.entries()) {
    for (const name of ['HF_TOKEN', 'HF_TOKEN_PATH']) delete process.env[name]
    Object.assign(process.env, env)
    const path = `/ann/tiny/resolve/main/m${index}.gguf`
    scene.server.serve(path, model.path)
    await scene.gate.ensureModel(`hf:ann/tiny/m${index}.gguf`)
    assert.equal(scene.server.requests(path)[0]?.headers.authorization, expected)
  }
})

test('the proxy of the environment is used, but for hosts that it shall not be used for', async () => {
  await using scene = await Scene.create()
  const model = scene.model()
  const tunnels: string[] = []
  const proxy: Server = createServer()
  proxy.on('connect', (request, socket) => {
    tunnels.push(request.url ?? '')
    const { port } = new URL(scene.server.origin)
    const there = connect(Number(port), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      there.pipe(socket).pipe(there)
    })
    for (const end of [there, socket]) end.on('error', () => {})
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  try {
    process.env.HTTP_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
    scene.server.serve('/m.gguf', model.path)
    const file = await scene.gate.ensureModel('http://models.invalid/m.gguf')
    assert.equal(file.sha256, model.sha256)
    assert.deepEqual(tunnels, ['models.invalid:80'])
    process.env.NO_PROXY = '127.0.0.1'
    await scene.gate.ensureModel(scene.server.serve('/near.gguf', model.path))
    assert.equal(tunnels.length, 1)
  } finally {
    proxy.close()
    proxy.closeAllConnections()
  }
})

test("a dispatcher of the caller's own is used, and stays open", async () => {
  await using scene = await Scene.create()
  let dispatched = 0
  // Wine's sockets know no TCP keep-alive.
  const agent = new Agent({ connect: { keepAlive: false } })
  const dispatcher = agent.compose((dispatch) => (options, handler) => {
    dispatched++
    return dispatch(options, handler)
  })
  for (const path of ['/a.gguf', '/b.gguf']) {
    await scene.gate.ensureModel(scene.server.serve(path, scene.model().path), { dispatcher })
  }
  assert.equal(dispatched, 2)
  await agent.close()
})

test('options that make no sense are refused', async () => {
  await using scene = await Scene.create()
  const url = scene.server.serve('/m.gguf', scene.model().path)
  const wrong = [
    { connections: 0 },
    { connections: 1.5 },
    { connections: 33 },
    { fetch: 'sometimes' },
    { timeoutMs: -1 },
  ]
  for (const options of wrong) {
    await assert.rejects(scene.gate.ensureModel(url, options as EnsureModelOptions), {
      code: 'ERR_MUTEX_INVALID_ARGUMENT',
    })
  }
  const split = url.replace('m.gguf', 'm-00001-of-00002.gguf')
  await assert.rejects(scene.gate.ensureModel(split, { mirrorTo: './x.gguf' }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
})
