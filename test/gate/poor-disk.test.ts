// A models folder on a file system that knows no locks, or where the user may not have any more: a download still comes
// out right or says what is missing, and takes nobody's partial.
import assert from 'node:assert/strict'
import { readdirSync, utimesSync } from 'node:fs'
import { test } from 'node:test'
import { partialsIn } from '../support/download-folder.ts'
import { compilePoorDisk, ifCompilable } from '../support/endable-flock/compile.ts'
import { GateProcess } from '../support/gate-process.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { until } from '../support/until.ts'

clearDownloadVariables()

const onLinux = {
  ...(process.platform === 'linux' ? ifCompilable : { skip: 'LD_PRELOAD is of Linux' }),
  timeout: 60_000,
}

/** Another process, whose mutexes are its own: nothing but the folder is shared. */
async function poorProcess(
  scene: GateScene,
  poorIn: 'NO_LOCKS_BELOW' | 'NO_QUOTA_BELOW',
  prefix = 'one',
): Promise<GateProcess> {
  const { models, path } = scene.folder
  const env = { LD_PRELOAD: compilePoorDisk(path), [poorIn]: models }
  return GateProcess.start({ ...scene.folder.options, prefix }, env)
}

/** Six hours and more, by the clock that the file system has. */
function makeStill(models: string): void {
  const then = new Date(Date.now() - 7 * 3_600_000)
  for (const { path, recordPath } of partialsIn(models))
    for (const file of [path, recordPath]) utimesSync(file, then, then)
}

const listed = (scene: GateScene) => readdirSync(scene.folder.models).filter((name) => name !== '.locks')

test('a model is downloaded and found again without locks, and nothing else is left', onLinux, async () => {
  await using scene = await GateScene.create()
  const model = scene.model()
  const url = scene.server.serve('/m.gguf', model.path)
  await using child = await poorProcess(scene, 'NO_LOCKS_BELOW')
  const file = await child.ensureModel(url).result
  assert.deepEqual([file.sha256, file.cached], [model.sha256, false])
  assert.equal((await child.ensureModel(url).result).cached, true)
  assert.deepEqual(listed(scene).sort(), ['.m.gguf.os-mutex.json', 'm.gguf'])
})

test('without locks a partial is taken only when nothing has happened to it for six hours', onLinux, async () => {
  await using scene = await GateScene.create()
  const { server, folder } = scene
  const model = scene.model()
  const url = server.serve('/m.gguf', model.path)
  server.pause('/m.gguf', 100_000)
  const areHere = (count: number) => {
    const bytes = partialsIn(folder.models).map((partial) => partial.bytes)
    return bytes.length === count && bytes.every((there) => there === 100_000)
  }
  await using owner = await poorProcess(scene, 'NO_LOCKS_BELOW', 'one')
  void owner.ensureModel(url)
  await until('its partial has what was sent', () => areHere(1))
  await using other = await poorProcess(scene, 'NO_LOCKS_BELOW', 'two')
  void other.ensureModel(url)
  await until('the other has one of its own', () => areHere(2))
  await owner.kill()
  await other.kill()
  makeStill(folder.models)
  server.resume('/m.gguf')
  await using third = await poorProcess(scene, 'NO_LOCKS_BELOW', 'three')
  const file = await third.ensureModel(url).result
  assert.equal(file.sha256, model.sha256)
  assert.ok(file.resumedBytes > 0)
})

test('a user whose quota is used up is told so, and nothing is left', onLinux, async () => {
  await using scene = await GateScene.create()
  const model = scene.model()
  const url = scene.server.serve('/m.gguf', model.path)
  await using child = await poorProcess(scene, 'NO_QUOTA_BELOW')
  await assert.rejects(child.ensureModel(url).result, { code: 'ERR_MODEL_DISK_FULL', message: /EDQUOT/ })
  assert.deepEqual(listed(scene), [])
})
