// gate.prune and gate.verify: what is cleared away, what is not, and what is found wrong.
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { LlamaModelGate } from 'os-mutex/llama'
import { partialsIn } from '../support/download-folder.ts'
import { Extents, encodeRecord } from '../support/download-internals.ts'
import { startDownload } from '../support/download-process.ts'
import { GateFolder } from '../support/gate-folder.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'
import { until } from '../support/until.ts'

const KiB = 1024

class Scene implements AsyncDisposable {
  readonly server: ModelServer
  readonly folder: GateFolder
  readonly gate: LlamaModelGate

  private constructor(server: ModelServer, folder: GateFolder) {
    this.server = server
    this.folder = folder
    this.gate = new LlamaModelGate(folder.options)
  }

  static async create(): Promise<Scene> {
    return new Scene(await ModelServer.start(), await GateFolder.create())
  }

  serve(path: string, seed = 1) {
    const model = makeTinyGguf({ path: join(this.folder.path, `source${seed}.gguf`), bytes: 256 * KiB, seed })
    return { ...model, url: this.server.serve(path, model.path) }
  }

  path(name: string): string {
    return join(this.folder.models, name)
  }

  get names(): string[] {
    return readdirSync(this.folder.models)
      .filter((name) => name !== '.locks')
      .sort()
  }

  /** As if nobody had touched it for so long. */
  age(pattern: RegExp, hours = 2): void {
    const then = new Date(Date.now() - hours * 3_600_000)
    for (const name of this.names) if (pattern.test(name)) utimesSync(this.path(name), then, then)
  }

  /** A process that has received a part of the file and waits for more. */
  async downloading(url: string, name: string) {
    this.server.pause(new URL(url).pathname, 100 * KiB)
    const child = startDownload(url, this.path(name))
    const partial = () => partialsIn(this.folder.models).find(({ path }) => basename(path).startsWith(name))
    await until('its partial has what was sent', () => partial()?.bytes === 100 * KiB)
    return child
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close()
    await this.folder[Symbol.asyncDispose]()
  }
}

test('a partial whose process is gone is cleared away when it is old, and not before', async () => {
  await using scene = await Scene.create()
  const { url } = scene.serve('/m.gguf')
  const child = await scene.downloading(url, 'm.gguf')
  await child.kill()
  assert.deepEqual(await scene.gate.prune(), [])
  assert.equal(scene.names.length, 2)
  scene.age(/partial/)
  const pruned = await scene.gate.prune()
  assert.deepEqual(
    pruned.map(({ path }) => path.replace(/[0-9a-f]{8}/, 'id')),
    [scene.path('m.gguf.id.os-mutex-partial'), scene.path('m.gguf.id.os-mutex-partial-record')],
  )
  assert.deepEqual(scene.names, [])
})

test("a download clears away other models' partials that nobody has touched for a week, and no younger one", async () => {
  await using scene = await Scene.create()
  const { gate } = scene
  for (const name of ['old', 'young']) {
    const { url } = scene.serve(`/${name}.gguf`)
    const child = await scene.downloading(url, `${name}.gguf`)
    await child.kill()
    scene.age(new RegExp(`^${name}.*partial`), name === 'old' ? 8 * 24 : 6 * 24)
  }
  await gate.ensureModel(scene.serve('/m.gguf', 2).url)
  assert.deepEqual(
    scene.names.map((name) => name.replace(/[0-9a-f]{8}/, 'id')),
    ['.m.gguf.os-mutex.json', 'm.gguf', 'young.gguf.id.os-mutex-partial', 'young.gguf.id.os-mutex-partial-record'],
  )
})

test('what a living process claims stays, however old it looks', async () => {
  await using scene = await Scene.create()
  const { url } = scene.serve('/m.gguf')
  const child = await scene.downloading(url, 'm.gguf')
  scene.age(/partial/)
  assert.deepEqual(await scene.gate.prune({ olderThanMs: 0 }), [])
  scene.server.resume('/m.gguf')
  await child.outcome
  assert.ok(existsSync(scene.path('m.gguf')))
})

test('models, manifests and files of others stay, and so does what has a time in the future', async () => {
  await using scene = await Scene.create()
  const { url } = scene.serve('/m.gguf')
  await scene.gate.ensureModel(url)
  // Also what has a name of ours, and does not bear what ours bear.
  const others = [
    'a.partial',
    'x.20240115.partial',
    'notes.0123abcd.txt',
    'x.0123abcd.os-mutex-partial.bak',
    'x.0123abcd.os-mutex-partial',
    'y.0123abcd.os-mutex-partial',
    'y.0123abcd.os-mutex-partial-record',
    'y.0123abcd.os-mutex-partial-lock',
    'y.89abcdef.os-mutex-rejected',
    '.y.os-mutex.json.0011aabb',
  ]
  for (const name of others) writeFileSync(scene.path(name), 'mine')
  const record = { version: 1, kind: 'download', source: 'x', sourceKey: 'x', bootId: 'x' } as const
  const debris = [
    ['m.gguf.0123abcd.os-mutex-partial-record', encodeRecord(record, new Extents())],
    ['m.gguf.89abcdef.os-mutex-partial-record', ''],
    ['m.gguf.89abcdef.os-mutex-rejected', '{"version":1,"rejectedAt":1}\nGGUF'],
    ['.m.gguf.os-mutex.json.0011aabb', '{"version":1}'],
  ] as const
  for (const [name, content] of debris) writeFileSync(scene.path(name), content)
  const tomorrow = new Date(Date.now() + 24 * 3_600_000)
  for (const [name] of debris) utimesSync(scene.path(name), tomorrow, tomorrow)
  assert.deepEqual(await scene.gate.prune({ olderThanMs: 0 }), [])
  scene.age(/./)
  const pruned = await scene.gate.prune()
  assert.deepEqual(pruned.map(({ path }) => path).sort(), debris.map(([name]) => scene.path(name)).sort())
  assert.deepEqual(scene.names, ['.m.gguf.os-mutex.json', 'm.gguf', ...others].sort())
  assert.deepEqual(await new LlamaModelGate({ modelsDirectory: scene.path('nowhere') }).prune(), [])
  await assert.rejects(scene.gate.prune({ olderThanMs: -1 }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
})

test('a file with a wrong hash is set aside with the reason, once, and goes when the right one comes', async () => {
  await using scene = await Scene.create()
  const { url, sha256 } = scene.serve('/m.gguf')
  const wrong = 'ab'.repeat(32)
  for (const _ of [1, 2]) {
    const error = await scene.gate.ensureModel({ url, sha256: wrong }).catch((error) => error)
    assert.equal(error.code, 'ERR_MODEL_HASH_MISMATCH')
    const [rejected = '', ...more] = scene.names
    assert.deepEqual([scene.path(rejected), more.length], [error.path, 0])
    assert.match(error.message, /not published; its beginning is kept as .*\.os-mutex-rejected for a look/)
    const content = readFileSync(scene.path(rejected))
    const line = content.indexOf('\n')
    const told = JSON.parse(content.toString('utf8', 0, line))
    assert.equal(content.toString('latin1', line + 1, line + 5), 'GGUF')
    assert.deepEqual(
      [told.reason, told.source, told.sha256],
      [`it has the SHA-256 ${sha256} instead of ${wrong}`, url, sha256],
    )
  }
  await scene.gate.ensureModel({ url, sha256 })
  assert.deepEqual(scene.names, ['.m.gguf.os-mutex.json', 'm.gguf'])
})

test('verify tells an intact file from a damaged, an unknown and an absent one, of a split model of all parts', async () => {
  await using scene = await Scene.create()
  const { url, sha256, bytes } = scene.serve('/m.gguf')
  const file = await scene.gate.ensureModel(url)
  let hashed = 0
  const onBytes = (done: number) => {
    hashed = done
  }
  assert.deepEqual(await scene.gate.verify(file.path, { onBytes }), { verdict: 'intact', sha256, bytes })
  assert.equal(hashed, bytes)
  assert.equal((await scene.gate.verify('m.gguf')).verdict, 'intact')
  truncateSync(file.path, 1000)
  assert.deepEqual(await scene.gate.verify('m.gguf'), {
    verdict: 'damaged',
    problem: `it has 1000 bytes instead of ${bytes}`,
  })
  assert.equal((await scene.gate.verify('other.gguf')).verdict, 'absent')
  writeFileSync(scene.path('other.gguf'), 'x')
  assert.equal((await scene.gate.verify('other.gguf')).verdict, 'unknown')

  const first = scene.serve('/s-00001-of-00002.gguf', 2)
  scene.serve('/s-00002-of-00002.gguf', 3)
  await scene.gate.ensureModel(first.url)
  assert.equal((await scene.gate.verify('s-00001-of-00002.gguf')).verdict, 'intact')
  truncateSync(scene.path('s-00002-of-00002.gguf'), 1000)
  assert.equal((await scene.gate.verify('s-00001-of-00002.gguf')).verdict, 'damaged')
})
