// `mirrorTo`: a second path for the model, which takes nobody's place and holds up nobody.
import assert from 'node:assert/strict'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { ModelProgress } from 'os-mutex/llama'
import { holdFile } from '../support/download-internals.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { withCopiesInSteps } from '../support/runtimes.ts'

clearDownloadVariables()

const MiB = 1024 * 1024

/** A folder on another file system, where no link can be made. */
function farFolder(t: TestContext): string {
  const folder = mkdtempSync('/dev/shm/os-mutex-mirror-')
  t.after(() => rmSync(folder, { recursive: true }))
  return folder
}

const withFar = { skip: whyNoFar() }

function whyNoFar(): string | false {
  if (process.platform !== 'linux' || !existsSync('/dev/shm')) return 'needs a second file system at a known place'
  return statSync('/dev/shm').dev === statSync(tmpdir()).dev && 'the temporary folder is on that file system itself'
}

test("a file that is nobody's or another source's is refused in place of a mirror, unless `replace` says so", async () => {
  await using scene = await GateScene.create()
  const { gate, server } = scene
  const [mine, theirs] = [scene.model(), scene.model()]
  const url = server.serve('/mine.gguf', mine.path)
  const app = join(scene.folder.path, 'app')
  mkdirSync(app)
  const nobodys = join(app, 'nobodys.gguf')
  copyFileSync(theirs.path, nobodys)
  const anothers = join(app, 'anothers.gguf')
  await gate.ensureModel(server.serve('/theirs.gguf', theirs.path), { mirrorTo: anothers })
  for (const [mirrorTo, whose] of [
    [nobodys, /no source is known of it/],
    [anothers, /it is from .*\/theirs\.gguf/],
  ] as const) {
    const { ino } = statSync(mirrorTo)
    const error = { code: 'ERR_MODEL_NAME_TAKEN', path: mirrorTo, message: whose }
    // Whether the model is there already or not.
    for (const _ of [1, 2]) await assert.rejects(gate.ensureModel(url, { mirrorTo }), error)
    assert.equal(statSync(mirrorTo).ino, ino)
    assert.deepEqual(readFileSync(mirrorTo), readFileSync(theirs.path))
    await gate.ensureModel(url, { mirrorTo, replace: true })
    assert.deepEqual(readFileSync(mirrorTo), readFileSync(mine.path))
  }
  // The one that was mirrored has its own file still.
  assert.equal((await gate.ensureModel(`${server.origin}/theirs.gguf`, { fetch: 'never' })).sha256, theirs.sha256)
  assert.deepEqual(readdirSync(app).sort(), [
    '.anothers.gguf.os-mutex.json',
    '.nobodys.gguf.os-mutex.json',
    'anothers.gguf',
    'nobodys.gguf',
  ])
})

test('an older mirror of the same source is replaced by the new version', async () => {
  await using scene = await GateScene.create()
  const { gate, server } = scene
  const [old, now] = [scene.model(), scene.model()]
  const url = server.serve('/m.gguf', old.path)
  const mirrorTo = join(scene.folder.path, 'mirror.gguf')
  await gate.ensureModel(url, { mirrorTo })
  server.serve('/m.gguf', now.path)
  await gate.ensureModel(url, { mirrorTo, fetch: 'always' })
  assert.deepEqual(readFileSync(mirrorTo), readFileSync(now.path))
})

test('a copy is made after the locks are released, with progress', { ...withFar, ...withCopiesInSteps }, async (t) => {
  await using scene = await GateScene.create()
  const far = farFolder(t)
  const model = scene.model(12 * MiB)
  const url = scene.server.serve('/m.gguf', model.path)
  const path = join(scene.folder.models, 'm.gguf')
  const copying: ModelProgress[] = []
  const held = new Set<boolean>()
  await scene.gate.ensureModel(url, {
    mirrorTo: join(far, 'm.gguf'),
    onProgress: (progress) => {
      if (progress.phase !== 'copying') return
      copying.push(progress)
      held.add(scene.folder.mutex('Download', path).query().held)
      const hold = holdFile(join(scene.folder.models, '.locks', 'm.gguf'))
      held.add(typeof hold === 'string')
      if (typeof hold !== 'string') hold.release()
    },
  })
  assert.ok(copying.length >= 3, `${copying.length} events`)
  assert.deepEqual([copying.at(-1)?.done, copying.at(-1)?.total], [model.bytes, model.bytes])
  assert.deepEqual([...held], [false])
  assert.deepEqual(readFileSync(join(far, 'm.gguf')), readFileSync(model.path))
})

test('a copy is called off by the signal, and leaves nothing but the model', {
  ...withFar,
  ...withCopiesInSteps,
}, async (t) => {
  await using scene = await GateScene.create()
  const far = farFolder(t)
  const model = scene.model(12 * MiB)
  const url = scene.server.serve('/m.gguf', model.path)
  const controller = new AbortController()
  const reason = new Error('enough')
  let copied = 0
  const call = scene.gate.ensureModel(url, {
    mirrorTo: join(far, 'm.gguf'),
    signal: controller.signal,
    onProgress: ({ phase, done }) => {
      if (phase !== 'copying') return
      copied = done
      controller.abort(reason)
    },
  })
  await assert.rejects(call, (error) => error === reason)
  assert.ok(copied > 0 && copied < model.bytes, `${copied} bytes`)
  assert.deepEqual(readdirSync(far), [])
  assert.equal((await scene.gate.ensureModel(url, { fetch: 'never' })).sha256, model.sha256)
})

test('of a split model all parts are mirrored, or none', async () => {
  await using scene = await GateScene.create()
  const { gate, server } = scene
  const [one, two] = [scene.model(), scene.model()]
  const url = server.serve('/m-00001-of-00002.gguf', one.path)
  server.serve('/m-00002-of-00002.gguf', two.path)
  const app = join(scene.folder.path, 'app')
  mkdirSync(app)
  const [first, second] = ['1', '2'].map((part) => join(app, `x-0000${part}-of-00002.gguf`)) as [string, string]
  copyFileSync(one.path, second)
  await assert.rejects(gate.ensureModel(url, { mirrorTo: first }), { code: 'ERR_MODEL_NAME_TAKEN', path: second })
  assert.deepEqual(readdirSync(app), ['x-00002-of-00002.gguf'])
  await gate.ensureModel(url, { mirrorTo: first, replace: true })
  assert.deepEqual(
    [first, second].map((path) => readFileSync(path)),
    [one, two].map(({ path }) => readFileSync(path)),
  )
})
