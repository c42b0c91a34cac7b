// Ordinary surroundings: stores that can't be written, times that were cut, folders that can't be synced, files that were cut,
// and a server that is down for all.
import assert from 'node:assert/strict'
import { copyFileSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { EnsureModelOptions, ModelSource, PublishedModel } from 'os-mutex/llama'
import { Container } from '../support/containers.ts'
import { GateProcess } from '../support/gate-process.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { withNamespaces } from '../support/namespaces.ts'
import { withStarters } from '../support/runtimes.ts'

clearDownloadVariables()

/** Asks in a container that sees the models read-only. */
async function askReadOnly(
  scene: GateScene,
  asks: readonly (readonly [ModelSource, EnsureModelOptions])[],
): Promise<PublishedModel[]> {
  const { models } = scene.folder
  const mount = (folder: string, at: string) => `mount --bind ${folder} ${at}; mount -o remount,ro,bind ${at}`
  await using container = await Container.start({ shared: [models], mount })
  await using child = await GateProcess.start({ modelsDirectory: models }, {}, container.node())
  const files: PublishedModel[] = []
  for (const [source, options] of asks) files.push(await child.ensureModel(source, options).result)
  return files
}

for (const locks of ['with', 'without']) {
  test(`a read-only store ${locks} a folder of locks answers from its files, also where it has no manifest`, {
    ...withNamespaces,
    ...withStarters,
  }, async () => {
    await using scene = await GateScene.create()
    const { models } = scene.folder
    const [known, bare] = [scene.model(), scene.model()]
    const knownUrl = scene.server.serve('/known.gguf', known.path)
    const bareUrl = scene.server.serve('/bare.gguf', bare.path)
    await scene.gate.ensureModel(knownUrl)
    if (locks === 'without') rmSync(join(models, '.locks'), { recursive: true })
    copyFileSync(bare.path, join(models, 'bare.gguf'))
    const before = readdirSync(models).sort()
    const { sha256 } = bare
    const files = await askReadOnly(scene, [
      [knownUrl, {}],
      [knownUrl, { fetch: 'always' }],
      [bareUrl, {}],
      [{ url: bareUrl, sha256 }, {}],
      [{ url: bareUrl, sha256 }, { fetch: 'never' }],
      [bareUrl, { fetch: 'never' }],
    ])
    assert.ok(files.every(({ cached, downloadedBytes }) => cached && downloadedBytes === 0))
    assert.deepEqual(
      files.map((file) => file.sha256),
      [known.sha256, known.sha256, undefined, sha256, sha256, undefined],
    )
    assert.deepEqual(readdirSync(models).sort(), before)
  })
}

for (const [title, cut] of [
  ['whole seconds', (ms: number) => Math.floor(ms / 1000)],
  ['one second for all', () => 1],
] as const) {
  test(`a store whose mtimes are ${title} answers as before, read-only or not`, {
    ...withNamespaces,
    ...withStarters,
  }, async () => {
    await using scene = await GateScene.create()
    const model = scene.model()
    const url = scene.server.serve('/m.gguf', model.path)
    const { path, publishedAt } = await scene.gate.ensureModel(url)
    const mtime = cut(publishedAt)
    utimesSync(path, mtime, mtime)
    const requests = scene.server.log.length
    const [file] = await askReadOnly(scene, [[url, { fetch: 'never' }]])
    assert.deepEqual([file?.cached, file?.sha256], [true, model.sha256])
    const here = await scene.gate.ensureModel(url)
    assert.deepEqual([here.cached, here.sha256], [true, model.sha256])
    assert.equal((await scene.gate.verify(path)).verdict, 'intact')
    assert.equal(scene.server.log.length, requests)
  })
}

/** From now on each sync of a folder fails so. */
async function failFolderSyncs(t: TestContext, code: string): Promise<() => number> {
  await using handle = await open('.', 'r')
  const prototype = Object.getPrototypeOf(handle) as typeof handle
  const { sync } = prototype
  let failures = 0
  t.mock.method(prototype, 'sync', async function (this: typeof handle) {
    if (!(await this.stat()).isDirectory()) return sync.call(this)
    failures++
    throw Object.assign(new Error(`${code}: fsync`), { code })
  })
  return () => failures
}

const onPosix = process.platform === 'win32' ? { skip: 'Windows syncs no folders' } : {}

for (const code of ['EINVAL', 'ENOTSUP', 'EBADF', 'ENOSYS']) {
  test(`a folder whose sync answers ${code} holds models all the same`, onPosix, async (t) => {
    await using scene = await GateScene.create()
    const failures = await failFolderSyncs(t, code)
    const model = scene.model()
    const mirrorTo = join(scene.folder.path, 'mirror', 'm.gguf')
    const file = await scene.gate.ensureModel(scene.server.serve('/m.gguf', model.path), { mirrorTo })
    assert.equal(file.sha256, model.sha256)
    assert.ok(failures() > 0)
  })
}

test('a folder whose sync answers EIO is an error', onPosix, async (t) => {
  await using scene = await GateScene.create()
  await failFolderSyncs(t, 'EIO')
  const url = scene.server.serve('/m.gguf', scene.model().path)
  await assert.rejects(scene.gate.ensureModel(url), { code: 'ERR_MODEL_FILE_SYSTEM' })
})

test('handles that cannot sync, as those of Yarn’s Plug’n’Play, are synced by their descriptors', async (t) => {
  await using scene = await GateScene.create()
  await using handle = await open(import.meta.filename, 'r')
  const prototype = Object.getPrototypeOf(handle) as typeof handle
  const missing = ['sync', 'datasync'] as const
  const mocks = missing.map((name) => {
    return t.mock.method(prototype, name, () => {
      throw new Error('Method not implemented.')
    })
  })
  const model = scene.model()
  const file = await scene.gate.ensureModel(scene.server.serve('/m.gguf', model.path))
  assert.equal(file.sha256, model.sha256)
  assert.ok(mocks.some(({ mock }) => mock.callCount() > 0))
})

test('a model that was cut by bytes is joined, whichever piece is named', async () => {
  await using scene = await GateScene.create()
  const { server, gate } = scene
  const model = scene.model()
  const content = readFileSync(model.path)
  const cutAt = 100_001
  const urls = [content.subarray(0, cutAt), content.subarray(cutAt)].map((piece, index) => {
    const path = join(scene.folder.path, `piece-${index}`)
    writeFileSync(path, piece)
    return server.serve(`/m.gguf.part${index + 1}of2`, path)
  })
  const file = await gate.ensureModel(urls[1] ?? '')
  assert.deepEqual(
    [file.path, file.sha256, file.bytes],
    [join(scene.folder.models, 'm.gguf'), model.sha256, model.bytes],
  )
  const requests = server.log.length
  for (const url of urls) assert.ok((await gate.ensureModel({ url, sha256: model.sha256 })).cached)
  assert.equal(server.log.length, requests)
  assert.deepEqual(readdirSync(scene.folder.models).sort(), ['.locks', '.m.gguf.os-mutex.json', 'm.gguf'])
  // The hash is that of the whole.
  rmSync(file.path)
  await assert.rejects(gate.ensureModel({ url: urls[0] ?? '', sha256: '0'.repeat(64) }), {
    code: 'ERR_MODEL_HASH_MISMATCH',
  })
})

for (const ranges of ['with', 'without']) {
  test(`a model that was cut by bytes and is broken off in its second piece is whole in the end, ${ranges} ranges`, async () => {
    await using scene = await GateScene.create()
    const { server, gate } = scene
    const model = scene.model()
    const content = readFileSync(model.path)
    for (const [index, piece] of [content.subarray(0, 100_001), content.subarray(100_001)].entries()) {
      const path = join(scene.folder.path, `piece-${index}`)
      writeFileSync(path, piece)
      server.serve(`/m.gguf.part${index + 1}of2`, path)
    }
    const second = '/m.gguf.part2of2'
    const url = `${server.origin}/m.gguf.part1of2`
    server.pause(second, 60_000)
    const controller = new AbortController()
    const aborted = gate.ensureModel(url, {
      signal: controller.signal,
      onProgress: ({ done }) => {
        if (done > 110_000) controller.abort()
      },
    })
    await assert.rejects(aborted, { name: 'AbortError' })
    server.resume(second)
    // The second piece comes from its first byte then, and what is here ends in its midst.
    if (ranges === 'without') server.fault(second, { kind: 'ignore-range' })
    const file = await gate.ensureModel(url)
    assert.equal(file.sha256, model.sha256)
    if (ranges === 'without') return
    assert.ok(file.resumedBytes > 100_001, `${file.resumedBytes}`)
    assert.equal(file.resumedBytes + file.downloadedBytes, model.bytes)
  })
}

for (const how of ['refuses connections', 'never answers'] as const) {
  test(`a server that ${how} keeps no process longer than its own downloadTimeoutMs`, async () => {
    await using scene = await GateScene.create()
    const { server, folder } = scene
    const limitMs = 3_000
    const url = server.serve('/m.gguf', scene.model().path)
    if (how === 'never answers') server.fault('/m.gguf', { kind: 'silent' })
    else await server.close()
    const options = { ...folder.options, downloadTimeoutMs: limitMs }
    const children = await Promise.all([1, 2, 3, 4].map(() => GateProcess.start(options)))
    try {
      const startedAt = performance.now()
      const outcomes = await Promise.all(
        children.map(async (child) => {
          const code = await child.ensureModel(url).result.catch((error: { code?: unknown }) => error.code)
          return { code, afterMs: performance.now() - startedAt }
        }),
      )
      for (const { code, afterMs } of outcomes) {
        assert.ok(code === 'ERR_MODEL_NETWORK' || code === 'ERR_MUTEX_TIMEOUT', String(code))
        // One after another the last one would be done after four times the limit.
        assert.ok(afterMs < limitMs * 3, `after ${Math.round(afterMs)} ms`)
      }
    } finally {
      await Promise.all(children.map((child) => child.kill()))
    }
  })
}
