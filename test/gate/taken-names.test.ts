// Two sources never share a file, and nobody's file is replaced or renamed unasked.
import assert from 'node:assert/strict'
import { copyFileSync, existsSync, readFileSync, renameSync, rmSync, statSync, truncateSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import type { PublishedModel } from 'os-mutex/llama'
import { resolveSource } from '../support/download-internals.ts'
import { GateProcess } from '../support/gate-process.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import type { TinyGguf } from '../support/tiny-gguf.ts'
import { warningsOf } from '../support/warnings.ts'

clearDownloadVariables()

class Scene implements AsyncDisposable {
  readonly theirs: TinyGguf
  readonly mine: TinyGguf
  /** What has the name before. */
  readonly theirUrl: string
  readonly url: string
  readonly #scene: GateScene

  private constructor(scene: GateScene) {
    this.#scene = scene
    this.theirs = scene.model()
    // Another size: without a hash or a manifest there is nothing else to tell two models by.
    this.mine = scene.model(320 * 1024)
    this.theirUrl = scene.server.serve('/x/theirs/m.gguf', this.theirs.path)
    this.url = scene.server.serve('/x/mine/m.gguf', this.mine.path)
  }

  static async create(): Promise<Scene> {
    return new Scene(await GateScene.create())
  }

  get gate() {
    return this.#scene.gate
  }

  get server() {
    return this.#scene.server
  }

  get options() {
    return this.#scene.folder.options
  }

  get plain(): string {
    return join(this.#scene.folder.models, 'm.gguf')
  }

  /** A function of the source alone. */
  get distinct(): string {
    const { key } = resolveSource(this.url, {})
    return join(this.#scene.folder.models, `m.${key.slice(0, 8)}.gguf`)
  }

  async put(kind: Kind, model: TinyGguf): Promise<void> {
    if (kind === "nobody's") copyFileSync(model.path, this.plain)
    else await this.gate.ensureModel(this.server.serve('/x/theirs/m.gguf', model.path))
  }

  /** Whether it is what it was. */
  get seal(): readonly unknown[] {
    const { ino, size, mtimeMs } = statSync(this.plain)
    return [ino, size, mtimeMs, readFileSync(this.plain).equals(readFileSync(this.theirs.path))]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scene[Symbol.asyncDispose]()
  }
}

const kinds = ["another source's", "nobody's"] as const
type Kind = (typeof kinds)[number]

function isCached({ cached, downloadedBytes }: PublishedModel): boolean {
  return cached && downloadedBytes === 0
}

for (const kind of kinds) {
  test(`a file under the name that is ${kind} stays, and the model gets a name of its own, told once`, async (t) => {
    await using scene = await Scene.create()
    const { gate, url, mine, plain, distinct } = scene
    const told = warningsOf(t, 'OS_MUTEX_NAME_TAKEN')
    await scene.put(kind, scene.theirs)
    const { seal } = scene
    const file = await gate.ensureModel(url)
    assert.deepEqual([file.path, file.sha256], [distinct, mine.sha256])
    assert.deepEqual(scene.seal, seal)
    await new Promise(setImmediate)
    assert.equal(told.length, 1)
    assert.ok(told[0]?.includes(plain) && told[0].includes(url) && told[0].endsWith(` stored as ${distinct}`), told[0])

    const requests = scene.server.log.length
    assert.deepEqual(await gate.ensureModel(url), { ...file, cached: true, downloadedBytes: 0 })
    assert.equal((await gate.ensureModel(url, { fetch: 'never' })).path, distinct)
    assert.equal(scene.server.log.length, requests)
    assert.equal((await gate.ensureModel(url, { fetch: 'always' })).path, distinct)
    await new Promise(setImmediate)
    assert.equal(told.length, 1)
    assert.deepEqual(scene.seal, seal)
  })

  test(`a name that was made once because of ${kind} file is kept when the plain one is free again`, async () => {
    await using scene = await Scene.create()
    await scene.put(kind, scene.theirs)
    await scene.gate.ensureModel(scene.url)
    rmSync(scene.plain)
    assert.ok(isCached(await scene.gate.ensureModel(scene.url)))
    // Another version, too.
    const next = scene.theirs
    scene.server.serve('/x/mine/m.gguf', next.path)
    const file = await scene.gate.ensureModel(scene.url, { fetch: 'always' })
    assert.deepEqual([file.path, file.sha256], [scene.distinct, next.sha256])
    assert.equal(existsSync(scene.plain), false)
  })

  test(`an explicit name that is ${kind} is refused, unless \`replace\` says so`, async () => {
    await using scene = await Scene.create()
    const { gate, url, mine, plain } = scene
    await scene.put(kind, scene.theirs)
    const { seal } = scene
    const source = { url, fileName: 'm.gguf' }
    await assert.rejects(gate.ensureModel(source), (error: Error & { code?: string; path?: string }) => {
      assert.deepEqual([error.code, error.path], ['ERR_MODEL_NAME_TAKEN', plain])
      assert.ok(error.message.includes(url), error.message)
      assert.match(error.message, kind === "nobody's" ? /no source is known/ : /it is from .*\/theirs\/m\.gguf/)
      assert.match(error.message, /`fileName`.*`replace: true`/)
      return true
    })
    assert.deepEqual(scene.seal, seal)
    const file = await gate.ensureModel(source, { replace: true })
    assert.deepEqual([file.path, file.sha256], [plain, mine.sha256])
    assert.ok(isCached(await gate.ensureModel(source)))
  })

  test(`a file that is ${kind} and has the hash that is asked for is used where it is`, async () => {
    await using scene = await Scene.create()
    const { gate, url, mine, plain } = scene
    await scene.put(kind, mine)
    const { ino } = statSync(plain)
    for (const fileName of [undefined, 'm.gguf']) {
      const file = await gate.ensureModel({ url, sha256: mine.sha256, ...(fileName && { fileName }) })
      assert.ok(isCached(file))
      assert.deepEqual([file.path, file.sha256, statSync(file.path).ino], [plain, mine.sha256, ino])
    }
    assert.equal(scene.server.requests('/x/mine/m.gguf').length, 0)
    // It is still what its own source asks for.
    if (kind !== "nobody's") assert.ok(isCached(await gate.ensureModel(scene.theirUrl)))
  })
}

test("what the hub's hash proves equal is used where it is", async () => {
  await using scene = await Scene.create()
  const { mine, server, gate } = scene
  const headers = { 'x-linked-etag': `"${mine.sha256}"`, 'x-linked-size': String(mine.bytes) }
  const path = '/ann/tiny/resolve/main/m.gguf'
  server.serve(path, { file: mine.path, headers })
  copyFileSync(mine.path, join(dirname(scene.plain), 'hf_ann_tiny_m.gguf'))
  const file = await gate.ensureModel('hf:ann/tiny/m.gguf')
  assert.ok(isCached(file))
  assert.deepEqual([basename(file.path), file.sha256], ['hf_ann_tiny_m.gguf', mine.sha256])
})

test("nobody's file of the server's size that is a whole model is used, without a word on its hash", async () => {
  await using scene = await Scene.create()
  await scene.put("nobody's", scene.mine)
  const file = await scene.gate.ensureModel(scene.url)
  assert.ok(isCached(file))
  assert.deepEqual([file.path, file.sha256, file.bytes], [scene.plain, undefined, scene.mine.bytes])
})

test("nobody's file that is cut is no model, and gets in nobody's way", async () => {
  await using scene = await Scene.create()
  await scene.put("nobody's", scene.mine)
  truncateSync(scene.plain, scene.mine.bytes - 32)
  const file = await scene.gate.ensureModel(scene.url)
  assert.deepEqual([file.path, file.sha256], [scene.distinct, scene.mine.sha256])
  assert.equal(statSync(scene.plain).size, scene.mine.bytes - 32)
})

test('in whichever order two sources of one name are asked for, each keeps its own file', async () => {
  for (const order of ['mine first', 'theirs first', 'theirs, then mine and mine again from a new place']) {
    await using scene = await Scene.create()
    const { gate, url, theirUrl, mine, theirs } = scene
    const asked = order === 'mine first' ? [url, theirUrl] : [theirUrl, url]
    const paths = new Map<string, string>()
    for (const one of asked) paths.set(one, (await gate.ensureModel(one)).path)
    if (order.includes('again')) {
      // The first of the two is renamed by its owner: the second one's name does not change.
      renameSync(scene.plain, join(dirname(scene.plain), 'kept.gguf'))
      asked.reverse()
    }
    const served = scene.server.log.length
    for (const one of asked) {
      if (order.includes('again') && one === theirUrl) continue
      const file = await gate.ensureModel(one)
      assert.equal(file.path, paths.get(one), order)
      assert.equal(file.sha256, one === url ? mine.sha256 : theirs.sha256, order)
    }
    assert.equal(scene.server.log.length, served, order)
    assert.equal(new Set(paths.values()).size, 2)
  }
})

test('two processes that ask for two sources of one name at once get two files, each downloaded once', async () => {
  await using scene = await Scene.create()
  const { options, server, url, theirUrl, mine, theirs } = scene
  await using one = await GateProcess.start(options)
  await using two = await GateProcess.start(options)
  await using three = await GateProcess.start(options)
  server.pause('/x/mine/m.gguf', 100 * 1024)
  const first = one.ensureModel(url)
  await first.seenProgress(({ phase }) => phase === 'downloading')
  const second = two.ensureModel(theirUrl)
  const third = three.ensureModel(theirUrl)
  for (const call of [second, third]) await call.seenProgress(({ phase }) => phase === 'waiting')
  server.resume('/x/mine/m.gguf')
  const files = await Promise.all([first.result, second.result, third.result])
  assert.deepEqual(
    files.map(({ sha256 }) => sha256),
    [mine.sha256, theirs.sha256, theirs.sha256],
  )
  assert.equal(files[0]?.path, scene.plain)
  assert.notEqual(files[1]?.path, scene.plain)
  assert.equal(files[1]?.path, files[2]?.path)
  // In whichever order the kernel lets the other two go.
  assert.deepEqual(
    files.map(({ downloadedBytes }) => downloadedBytes).sort((a, b) => a - b),
    [0, theirs.bytes, mine.bytes],
  )
})

test('another hash for one URL is a new version, and no collision', async () => {
  await using scene = await Scene.create()
  const { gate, url, mine, theirs, plain } = scene
  assert.equal((await gate.ensureModel({ url, sha256: mine.sha256 })).path, plain)
  scene.server.serve('/x/mine/m.gguf', theirs.path)
  const file = await gate.ensureModel({ url, sha256: theirs.sha256 })
  assert.deepEqual([file.path, file.sha256], [plain, theirs.sha256])
})

test('of a split model all parts get another name, if one of them is taken', async () => {
  await using scene = await Scene.create()
  const { gate, server, mine, theirs, plain } = scene
  server.serve('/x/mine/s-00001-of-00002.gguf', mine.path)
  const url = server.serve('/x/mine/s-00002-of-00002.gguf', theirs.path)
  copyFileSync(mine.path, join(dirname(plain), 's-00002-of-00002.gguf'))
  const file = await gate.ensureModel(url)
  const names = file.parts?.map(({ path }) => basename(path)) ?? []
  assert.match(names[0] ?? '', /^s\.[0-9a-f]{8}-00001-of-00002\.gguf$/)
  assert.equal(names[1], names[0]?.replace('-00001-', '-00002-'))
  assert.deepEqual(
    file.parts?.map(({ sha256 }) => sha256),
    [mine.sha256, theirs.sha256],
  )
  assert.ok((await gate.ensureModel(url)).cached)
})
