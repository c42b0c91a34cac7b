// A split model is published as one: nobody gets parts of two versions, whenever he looks and whenever a publisher dies.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { LlamaModelGate, type PublishedModel } from 'os-mutex/llama'
import { GateProcess } from '../support/gate-process.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { withReplacedBuiltins as withKills } from '../support/runtimes.ts'
import type { TinyGguf } from '../support/tiny-gguf.ts'

clearDownloadVariables()

const nameOf = (part: number) => `m-0000${part}-of-00003.gguf`

function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex')
}

class Scene implements AsyncDisposable {
  readonly scene: GateScene
  /** The parts of each version. The second part is the same in all. */
  readonly versions: readonly (readonly TinyGguf[])[]
  readonly url: string

  private constructor(scene: GateScene) {
    this.scene = scene
    const common = scene.model()
    this.versions = [1, 2, 3, 4].map(() => [scene.model(), common, scene.model()])
    this.url = `${scene.server.origin}/${nameOf(2)}`
    this.serve(0)
  }

  static async create(): Promise<Scene> {
    return new Scene(await GateScene.create())
  }

  get models(): string {
    return this.scene.folder.models
  }

  get names(): string[] {
    return readdirSync(this.models).sort()
  }

  get requests(): number {
    return this.scene.server.log.length
  }

  serve(version: number): void {
    for (const [index, { path }] of this.versions[version]?.entries() ?? []) {
      this.scene.server.serve(`/${nameOf(index + 1)}`, path)
    }
  }

  get(fetch: 'always' | 'never' | 'if-missing' = 'if-missing'): Promise<PublishedModel> {
    return this.scene.gate.ensureModel(this.url, { fetch })
  }

  /** Of which version all these bytes are. Fails if of none, or of several. */
  versionOf(hashes: readonly (string | undefined)[]): number {
    const version = this.versions.findIndex((parts) => parts.every(({ sha256 }, index) => sha256 === hashes[index]))
    assert.notEqual(version, -1, 'these are parts of several versions')
    return version
  }

  /** Of which version the files are that llama.cpp finds by the first one's name. */
  versionAt({ path }: Pick<PublishedModel, 'path'>): number {
    return this.versionOf([1, 2, 3].map((part) => sha256Of(path.replace('-00001-', `-0000${part}-`))))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.scene[Symbol.asyncDispose]()
  }
}

test('a reader that pauses between parts has one version, whatever is published meanwhile', async () => {
  await using scene = await Scene.create()
  assert.equal(scene.versionAt(await scene.get()), 0)
  for (const [version, pauseAfter] of [
    [1, 0],
    [2, 1],
    [3, 2],
  ] as const) {
    const file = await scene.get()
    const hashes: string[] = []
    for (const [index, part] of (file.parts ?? []).entries()) {
      if (index === pauseAfter) {
        scene.serve(version)
        assert.equal(scene.versionAt(await scene.get('always')), version)
      }
      hashes.push(sha256Of(part.path))
    }
    assert.equal(scene.versionOf(hashes), version - 1)
    assert.deepEqual(
      file.parts?.map(({ sha256 }) => sha256),
      hashes,
    )
    assert.equal(scene.versionAt(file), version - 1)
  }
})

test('the first version lies flat, and a later one in a folder of its own that has the parts which are the same', async () => {
  await using scene = await Scene.create()
  const first = await scene.get()
  const flat = [1, 2, 3].map(nameOf)
  assert.equal(first.path, join(scene.models, nameOf(1)))
  assert.deepEqual(
    scene.names,
    ['.locks', `.${nameOf(1)}.os-mutex-group.json`, ...flat, ...flat.map((name) => `.${name}.os-mutex.json`)].sort(),
  )
  scene.serve(1)
  const served = scene.scene.server.bytesServed(`/${nameOf(2)}`)
  const second = await scene.get('always')
  assert.match(basename(dirname(second.path)), /^m\.[0-9a-f]{8}$/)
  assert.equal(dirname(dirname(second.path)), scene.models)
  assert.equal(basename(second.path), nameOf(1))
  assert.equal(scene.scene.server.bytesServed(`/${nameOf(2)}`), served)
  const [old, now] = [first, second].map((file) => statSync(file.parts?.[1]?.path ?? '').ino)
  assert.equal(old, now)
  assert.deepEqual(await scene.get('never'), { ...second, ...cached(second) })
  assert.deepEqual(
    scene.names.filter((name) => name.includes('partial')),
    [],
  )
})

function cached(file: PublishedModel): Partial<PublishedModel> {
  const zero = { cached: true, downloadedBytes: 0, resumedBytes: 0 }
  return { ...zero, parts: file.parts?.map((part) => ({ ...part, ...zero })) ?? [] }
}

test('a part that was lost is not fetched beside parts of an older version', async () => {
  await using scene = await Scene.create()
  const first = await scene.get()
  const lost = first.parts?.[2]?.path ?? ''
  rmSync(lost)
  // The same version still: the others are asked about, and stay.
  const again = await scene.get()
  assert.equal(scene.versionAt(again), 0)
  assert.equal(again.downloadedBytes, first.parts?.[2]?.bytes)
  rmSync(lost)
  scene.serve(1)
  assert.equal(scene.versionAt(await scene.get()), 1)
  assert.equal(scene.versionAt(await scene.get('never')), 1)
})

test('parts of two versions that lie side by side are not taken for one model', async () => {
  await using scene = await Scene.create()
  await scene.get()
  const of = (name: string) => [name, `.${name}.os-mutex.json`]
  const elsewhere = join(scene.scene.folder.path, 'elsewhere')
  scene.serve(1)
  const other = new LlamaModelGate({ ...scene.scene.folder.options, modelsDirectory: elsewhere })
  await other.ensureModel(scene.url)
  for (const name of of(nameOf(3))) renameSync(join(elsewhere, name), join(scene.models, name))
  for (const note of [true, false]) {
    if (!note) rmSync(join(scene.models, `.${nameOf(1)}.os-mutex-group.json`))
    await assert.rejects(scene.get('never'), { code: 'ERR_MODEL_NOT_FOUND' })
    if (note) continue
    assert.equal(scene.versionAt(await scene.get()), 1)
  }
})

/** A process that gets the model and dies before that step. `false`: it has come to its end. */
async function diesAt(scene: Scene, step: number, fetch: 'always' | 'if-missing'): Promise<boolean> {
  const preload = new URL('../support/kill-at-step.js', import.meta.url).href
  const env = { OS_MUTEX_TEST_KILL_AT: String(step) }
  await using child = await GateProcess.start(scene.scene.folder.options, env, { execArgv: ['--import', preload] })
  const call = child.ensureModel(scene.url, { fetch })
  try {
    await call.result
    return false
  } catch (error) {
    // Windows gives the exit code of whoever has ended a process.
    if ((await child.ended) !== (process.platform === 'win32' ? 1 : 'SIGKILL')) throw error
    return true
  }
}

test(
  'whenever the publisher of a first version dies, the next one completes it, once it has begun without the network',
  withKills,
  async () => {
    await using scene = await Scene.create()
    const { scene: inner } = scene
    let completedOffline = 0
    for (let step = 1; ; step++) {
      for (const name of scene.names.filter((name) => name !== '.locks')) {
        rmSync(join(scene.models, name), { recursive: true })
      }
      if (!(await diesAt(scene, step, 'if-missing'))) {
        assert.ok(step > 8, `only ${step} steps`)
        break
      }
      // Before it is there as a whole, it is not there.
      const found = await scene.get('never').catch((error: Error & { code?: string }) => error.code)
      if (typeof found === 'object') assert.equal(scene.versionAt(found), 0)
      const isBegun = existsSync(join(scene.models, `.${nameOf(1)}.os-mutex-group.json`))
      const asked = inner.server.log.length
      const file = await scene.get()
      assert.equal(scene.versionAt(file), 0)
      assert.equal(file.path, join(scene.models, nameOf(1)))
      if (isBegun) {
        assert.equal(inner.server.log.length, asked, `asked at step ${step}`)
        completedOffline++
      }
      assert.deepEqual(
        scene.names.filter((name) => name.includes('partial')),
        [],
      )
    }
    assert.ok(completedOffline >= 5, `completed ${completedOffline} times`)
  },
)

test(
  'whenever the publisher of a later version dies, the old one or the new one is there, whole',
  withKills,
  async () => {
    await using scene = await Scene.create()
    await scene.get()
    let [versions, step] = [new Set<number>(), 1]
    for (let dies = true; dies; step++) {
      scene.serve(1)
      dies = await diesAt(scene, step, 'always')
      const found = scene.versionAt(await scene.get('never'))
      versions.add(found)
      assert.equal(scene.versionAt(await scene.get('always')), 1)
      assert.deepEqual(
        scene.names.filter((name) => name.includes('partial')),
        [],
      )
      // Back to the old one, for the next step.
      scene.serve(0)
      assert.equal(scene.versionAt(await scene.get('always')), 0)
    }
    assert.deepEqual([...versions].sort(), [0, 1])
    assert.ok(step > 8, `only ${step} steps`)
  },
)

test('a superseded version is pruned when it is old, and not while somebody loads it or has changed it', async () => {
  await using scene = await Scene.create()
  const { gate, folder } = scene.scene
  const [first, second, third] = [await scene.get(), await next(scene, 1), await next(scene, 2)]
  assert.deepEqual(await gate.prune(), [])
  const loading = await folder.mutex('Model', second.path).acquire({ purpose: 'load' })
  const pruned = await gate.prune({ olderThanMs: 0 })
  assert.deepEqual(
    pruned.map(({ path }) => path),
    first.parts?.map(({ path }) => path),
  )
  assert.equal(scene.versionAt(second), 1)
  loading.release()
  const own = dirname(second.path)
  writeFileSync(join(own, 'notes.txt'), 'mine')
  assert.deepEqual(await gate.prune({ olderThanMs: 0 }), [])
  rmSync(join(own, 'notes.txt'))
  assert.equal((await gate.prune({ olderThanMs: 0 })).length, 3)
  assert.equal(existsSync(own), false)
  assert.equal(scene.versionAt(await scene.get('never')), 2)
  assert.deepEqual(scene.names, ['.locks', `.${nameOf(1)}.os-mutex-group.json`, basename(dirname(third.path))].sort())
})

/** Does something right before a request for a part is answered, the next one or a later one. */
function whenAsked({ scene: { server } }: Scene, part: number, act: () => void, which = 1): void {
  const only = (_: unknown, ordinal: number) => {
    if (ordinal === which) act()
    return false
  }
  server.fault(`/${nameOf(part)}`, { kind: 'silent', only })
}

test('a part that the server has not changed is asked about again when the others are here', async () => {
  await using scene = await Scene.create()
  await scene.get()
  whenAsked(scene, 2, () => scene.serve(1))
  assert.equal(scene.versionAt(await scene.get('always')), 1)
})

test('a part that took the place of an older partial, and is of another version by the end, is fetched anew', async () => {
  await using scene = await Scene.create()
  const { server, gate } = scene.scene
  const path = `/${nameOf(1)}`
  const controller = new AbortController()
  server.pause(path, 100 * 1024)
  let call: Promise<PublishedModel> | undefined
  await new Promise<void>((resolve) => {
    const onProgress = ({ done }: { readonly done: number }) => done > 0 && resolve()
    call = gate.ensureModel(scene.url, { signal: controller.signal, onProgress })
  })
  controller.abort()
  await assert.rejects(call ?? assert.fail(), { name: 'AbortError' })
  server.resume(path)
  scene.serve(1)
  // By its second request it learns whether what it has fetched is still there.
  whenAsked(scene, 1, () => scene.serve(2), 2)
  assert.equal(scene.versionAt(await scene.get('always')), 2)
})

function inodesOf({ parts = [] }: PublishedModel): bigint[] {
  return parts.map(({ path }) => statSync(path, { bigint: true }).ino)
}

test('a version that comes back is where it was, and nothing of it is replaced', async () => {
  await using scene = await Scene.create()
  const files = [await scene.get(), await next(scene, 1), await next(scene, 2)]
  const inodes = files.map(inodesOf)
  for (const version of [1, 0, 2, 0, 1]) {
    const file = await next(scene, version)
    assert.equal(scene.versionAt(file), version)
    assert.equal(file.path, files[version]?.path)
    assert.deepEqual(await scene.get('never').then(({ path }) => path), file.path)
    for (const [other, there] of files.entries()) assert.deepEqual(inodesOf(there), inodes[other])
  }
})

test('a version that its server has put there once more stays where it is, and is known by its new ETag', async () => {
  await using scene = await Scene.create()
  const { server } = scene.scene
  for (const version of [0, 1]) {
    const file = await next(scene, version)
    const inodes = inodesOf(file)
    for (const [index, { path }] of scene.versions[version]?.entries() ?? [])
      server.serve(`/${nameOf(index + 1)}`, { file: path, etag: `"again-${version}-${index}"` })
    const again = await scene.get('always')
    assert.deepEqual([again.path, inodesOf(again)], [file.path, inodes])
    assert.equal((await scene.get('always')).downloadedBytes, 0)
    assert.deepEqual(
      scene.names.filter((name) => name.includes('partial')),
      [],
    )
  }
})

test('a version that was damaged where it was is published anew', async () => {
  await using scene = await Scene.create()
  const files = [await scene.get(), await next(scene, 1), await next(scene, 2)]
  const damaged = files[1]?.parts?.[2]?.path ?? ''
  const { atime, mtime } = statSync(damaged)
  const bytes = readFileSync(damaged)
  bytes.writeUInt32LE(0xdeadbeef, bytes.length - 4)
  writeFileSync(damaged, bytes)
  utimesSync(damaged, atime, mtime)
  assert.equal(scene.versionAt(await next(scene, 1)), 1)
})

/** Its publisher dies in each of its steps, one after the other, until what it leaves is like that. */
async function diesWhen(scene: Scene, fetch: 'always' | 'if-missing', isSo: () => boolean): Promise<void> {
  for (let step = 1; await diesAt(scene, step, fetch); step++) {
    if (isSo()) return
    // What one left would make the next one's way another.
    await scene.scene.gate.prune({ olderThanMs: 0 })
  }
  assert.fail('it never was like that')
}

test(
  'a download that is cut short takes nothing from a version that is published and has partials still',
  withKills,
  async () => {
    await using scene = await Scene.create()
    const { gate } = scene.scene
    await scene.get()
    scene.serve(1)
    const hasPartial = () => scene.names.some((name) => name.startsWith(nameOf(3)) && name.endsWith('-partial'))
    const before = await scene.get('never')
    await diesWhen(scene, 'always', () => {
      const note = JSON.parse(readFileSync(join(scene.models, `.${nameOf(1)}.os-mutex-group.json`), 'utf8'))
      return note.folder !== undefined && hasPartial()
    })
    const file = await scene.get('never')
    assert.notEqual(file.path, before.path)
    const controller = new AbortController()
    whenAsked(scene, 3, () => controller.abort())
    await assert.rejects(gate.ensureModel(scene.url, { fetch: 'always', signal: controller.signal }), {
      name: 'AbortError',
    })
    assert.equal(scene.versionAt(file), 1)
    assert.deepEqual((await scene.get('never')).path, file.path)
  },
)

test('parts of a first version that nobody completed are pruned once there is another one', withKills, async () => {
  await using scene = await Scene.create()
  const { gate } = scene.scene
  const has = (part: number) => existsSync(join(scene.models, nameOf(part)))
  await diesWhen(scene, 'if-missing', () => has(3) && !has(1))
  const now = await next(scene, 1)
  await gate.prune({ olderThanMs: 0 })
  assert.deepEqual(scene.names, ['.locks', `.${nameOf(1)}.os-mutex-group.json`, basename(dirname(now.path))].sort())
  assert.equal(scene.versionAt(await scene.get('never')), 1)
})

function next(scene: Scene, version: number): Promise<PublishedModel> {
  scene.serve(version)
  return scene.get('always')
}
