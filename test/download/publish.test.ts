import assert from 'node:assert/strict'
import { readFileSync, statSync } from 'node:fs'
import { test } from 'node:test'
import { openDownloadFolder, published, sha256Of } from '../support/download-folder.ts'
import {
  type DownloadProgress,
  downloadFile,
  findPublished,
  resolveSource,
  verifyPublished,
} from '../support/download-internals.ts'

const MiB = 1024 * 1024

test('a download publishes the right bytes, with a manifest beside them and nothing else', async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const file = payload(3 * MiB + 7)
  const source = resolveSource(server.serve('/model.gguf', file.path))
  const model = await downloadFile({ source, destination })
  assert.equal(sha256Of(destination), file.sha256)
  assert.deepEqual(list(), published)
  const { publishedAt, etag, ...rest } = model
  assert.deepEqual(rest, {
    path: destination,
    bytes: file.bytes,
    sha256: file.sha256,
    source: `${server.origin}/model.gguf`,
    cached: false,
    downloadedBytes: file.bytes,
    resumedBytes: 0,
  })
  assert.ok(Math.abs(Date.now() - publishedAt) < 60_000)
  assert.match(etag ?? '', /^"\w+"$/)
  const manifest = JSON.parse(readFileSync(`${models}/.model.gguf.os-mutex.json`, 'utf8'))
  assert.equal(manifest.sha256, file.sha256)
  assert.equal(manifest.bytes, file.bytes)
  assert.equal(manifest.mtimeMs, statSync(destination).mtimeMs)
  assert.deepEqual(await verifyPublished(destination), { verdict: 'intact', sha256: file.sha256, bytes: file.bytes })
  assert.equal(server.bytesServed('/model.gguf'), file.bytes)
})

test('a published file is found again without any request', async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t)
  const file = payload(MiB)
  const url = server.serve('/model.gguf', file.path)
  await downloadFile({ source: resolveSource(url), destination })
  const asked = server.requests('/model.gguf').length
  for (const source of [url, { url, sha256: file.sha256.toUpperCase() }, { url, bytes: file.bytes }]) {
    const found = await findPublished(destination, resolveSource(source))
    assert.equal(found?.sha256, file.sha256)
    assert.equal(found.cached, true)
    const again = await downloadFile({ source: resolveSource(source), destination })
    assert.deepEqual(again, found)
  }
  assert.equal(server.requests('/model.gguf').length, asked)
})

test('a published file does not answer for another hash, size or URL, but its hash answers for any URL', async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t)
  const file = payload(MiB)
  const url = server.serve('/model.gguf', file.path)
  await downloadFile({ source: resolveSource(url), destination })
  const find = (source: Parameters<typeof resolveSource>[0]) => findPublished(destination, resolveSource(source))
  assert.equal(await find({ url, sha256: '0'.repeat(64) }), undefined)
  assert.equal(await find({ url, bytes: file.bytes + 1 }), undefined)
  assert.equal(await find(`${server.origin}/other.gguf`), undefined)
  assert.equal(await find(`${url}?id=2`), undefined)
  assert.equal((await find({ url: `${server.origin}/other.gguf`, sha256: file.sha256 }))?.sha256, file.sha256)
})

test('another version replaces the published file in one step, and who has the old one open keeps it', async (t) => {
  const { server, destination, payload, list } = await openDownloadFolder(t)
  const [first, second] = [payload(MiB), payload(2 * MiB)]
  const url = server.serve('/model.gguf', first.path)
  await downloadFile({ source: resolveSource(url), destination })
  const inode = statSync(destination).ino
  server.serve('/model.gguf', second.path)
  const model = await downloadFile({ source: resolveSource({ url, sha256: second.sha256 }), destination })
  assert.equal(model.cached, false)
  assert.equal(sha256Of(destination), second.sha256)
  assert.notEqual(statSync(destination).ino, inode)
  assert.deepEqual(list(), published)
})

test('a body without a length is taken when its framing tells where it ends', async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t)
  const file = payload(MiB)
  const url = server.serve('/model.gguf', file.path)
  server.fault('/model.gguf', { kind: 'no-length', chunked: true })
  assert.equal((await downloadFile({ source: resolveSource(url), destination })).sha256, file.sha256)
})

test('progress never falls, comes at most 10 times a second, knows rate and time left, and ends at 100 %', async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t, { bytesPerSecond: 4 * MiB })
  const file = payload(3 * MiB)
  const source = resolveSource(server.serve('/model.gguf', file.path))
  const events: (DownloadProgress & { at: number })[] = []
  const onProgress = (progress: DownloadProgress) => events.push({ ...progress, at: performance.now() })
  await downloadFile({ source, destination, onProgress })
  assert.deepEqual(
    [...new Set(events.map((event) => event.phase))],
    ['resolving', 'downloading', 'verifying', 'publishing'],
  )
  const downloading = events.filter((event) => event.phase === 'downloading')
  for (const [index, event] of downloading.entries()) {
    assert.equal(event.total, file.bytes)
    const before = downloading[index - 1]
    if (before) assert.ok(event.done >= before.done && event.at - before.at >= 99)
  }
  assert.ok(downloading.length >= 4)
  const late = downloading.at(-1)
  assert.ok(late?.bytesPerSecond && late.bytesPerSecond > MiB && late.bytesPerSecond < 16 * MiB)
  assert.ok(late.etaMs !== undefined && late.etaMs < 3000)
  assert.equal(events.at(-1)?.done, file.bytes)
  assert.equal(events.at(-1)?.total, file.bytes)
})

test('a cached answer of downloadFile ends at 100 %, too', async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t)
  const file = payload(MiB)
  const source = resolveSource(server.serve('/model.gguf', file.path))
  await downloadFile({ source, destination })
  const events: DownloadProgress[] = []
  await downloadFile({ source, destination, onProgress: (progress) => events.push(progress) })
  assert.equal(events.at(-1)?.done, file.bytes)
})
