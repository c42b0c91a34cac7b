import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openDownloadFolder, partialsIn, published, sha256Of, until } from '../support/download-folder.ts'
import { downloadFile, findPublished, resolveSource } from '../support/download-internals.ts'
import { startDownload } from '../support/download-process.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'

test('processes that download one file at once without any lock all get the right file, and leave no strays', async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const file = payload(3 * MiB)
  const url = server.serve(path, file.path)
  // Held until all are in the middle of it, so that they really overlap.
  server.pause(path, MiB)
  const processes = [1, 2, 3].map(() => startDownload(url, destination))
  await until(() => partialsIn(models).filter((partial) => partial.bytes === MiB).length === processes.length)
  server.resume(path)
  for (const { outcome } of processes) assert.equal((await outcome).sha256, file.sha256)
  assert.equal(sha256Of(destination), file.sha256)
  assert.deepEqual(list(), published)
  // Whichever manifest came last, the next call is content with what is there.
  const asked = server.requests(path).length
  const again = await downloadFile({ source: resolveSource(url), destination })
  assert.equal(again.cached, true)
  assert.equal(server.requests(path).length, asked)
  assert.ok(await findPublished(destination, resolveSource(url)))
})

test('downloads of one file at once in one process do not touch each other', async (t) => {
  const { server, destination, payload, list } = await openDownloadFolder(t)
  const file = payload(2 * MiB)
  const source = resolveSource(server.serve(path, file.path))
  const models = await Promise.all([1, 2, 3].map(() => downloadFile({ source, destination })))
  assert.ok(models.every((model) => model.sha256 === file.sha256))
  assert.deepEqual(list(), published)
})

test('a process that is killed beside another leaves a partial, which the other one sweeps', async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const file = payload(2 * MiB)
  const url = server.serve(path, file.path)
  server.pause(path, MiB)
  const [victim, survivor] = [startDownload(url, destination), startDownload(url, destination)]
  await until(() => partialsIn(models).filter((partial) => partial.bytes === MiB).length === 2)
  await victim.kill()
  server.resume(path)
  await survivor.outcome
  assert.deepEqual(list(), published)
})
