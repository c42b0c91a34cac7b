// What `fetch`, `mirrorTo` and `keepPartial` mean.
import assert from 'node:assert/strict'
import { mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { partialsIn } from '../support/download-folder.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { until } from '../support/until.ts'

const KiB = 1024

clearDownloadVariables()

test('`always` replaces a file that is another on the server by now, and leaves the old one to whoever has it open', async () => {
  await using scene = await GateScene.create()
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
  await using scene = await GateScene.create()
  const url = scene.server.serve('/m.gguf', scene.model().path)
  await scene.gate.ensureModel(url)
  scene.server.fault('/m.gguf', { kind: 'cut-each', bytes: 0 })
  await scene.server.close()
  await assert.rejects(scene.gate.ensureModel(url, { fetch: 'always' }), { code: 'ERR_MODEL_NETWORK' })
  assert.equal((await scene.gate.ensureModel(url)).cached, true)
})

test('`never` asks no server', async () => {
  await using scene = await GateScene.create()
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
  await using scene = await GateScene.create()
  const model = scene.model()
  const url = scene.server.serve('/m.gguf', model.path)
  const mirrorTo = join(scene.folder.path, 'app', 'models', 'phi.gguf')
  const file = await scene.gate.ensureModel(url, { mirrorTo })
  const { ino, mtimeMs } = statSync(mirrorTo)
  assert.equal(ino, statSync(file.path).ino)
  await scene.gate.ensureModel(url, { mirrorTo })
  assert.deepEqual([statSync(mirrorTo).ino, statSync(mirrorTo).mtimeMs], [ino, mtimeMs])
  assert.deepEqual(readdirSync(join(scene.folder.path, 'app', 'models')).sort(), [
    '.phi.gguf.os-mutex.json',
    'phi.gguf',
  ])
  await assert.rejects(scene.gate.ensureModel(url, { mirrorTo: scene.folder.models }), {
    code: 'ERR_MODEL_FILE_SYSTEM',
  })
})

test('where no link can be made, `mirrorTo` is a copy', {
  skip: process.platform !== 'linux' && 'needs a second file system at a known place',
}, async () => {
  await using scene = await GateScene.create()
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
    assert.deepEqual(readdirSync(far).sort(), ['.m.gguf.os-mutex.json', 'm.gguf'])
  } finally {
    rmSync(far, { recursive: true })
  }
})

test('`keepPartial: false` leaves nothing of a download that was given up', async () => {
  await using scene = await GateScene.create()
  const partials = () => partialsIn(scene.folder.models)
  for (const keepPartial of [false, true]) {
    const path = `/${keepPartial}.gguf`
    const url = scene.server.serve(path, scene.model().path)
    scene.server.pause(path, 100 * KiB)
    const controller = new AbortController()
    const download = scene.gate.ensureModel(url, { keepPartial, signal: controller.signal })
    download.catch(() => {})
    // One without a byte is of no use to anyone, and never stays.
    await until('the partial has bytes', () => (partials()[0]?.bytes ?? 0) > KiB)
    const reason = new Error('enough')
    controller.abort(reason)
    await assert.rejects(download, (error) => error === reason)
    assert.equal(partials().length, keepPartial ? 1 : 0)
  }
})
