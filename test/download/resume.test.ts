import assert from 'node:assert/strict'
import { appendFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  assertPublished,
  type DownloadFolder,
  editRecord,
  openDownloadFolder,
  partialsIn,
  until,
} from '../support/download-folder.ts'
import { downloadFile, Extents, encodeRecord, resolveSource } from '../support/download-internals.ts'
import { startDownload } from '../support/download-process.ts'
import type { ServedFile } from '../support/model-server.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'
const quick = { retryDelaysMs: [1, 2, 4] }

/** Kills a downloading process when exactly `kept` bytes of the file are on its disk. */
async function killAt(folder: DownloadFolder, served: ServedFile, kept: number, sha256?: string): Promise<string> {
  const { server, models, destination } = folder
  const url = server.serve(path, served)
  server.pause(path, kept)
  const child = startDownload(sha256 === undefined ? url : { url, sha256 }, destination)
  await server.reached(path, kept)
  await until(() => partialsIn(models)[0]?.bytes === kept)
  assert.equal(partialsIn(models)[0]?.isHeld, true)
  await child.kill()
  await server.idle(path)
  server.resume(path)
  return url
}

/** Overwrites parts of the one partial's record. */
function editTheRecord(models: string, changes: Record<string, unknown>): void {
  const [partial] = partialsIn(models)
  assert.ok(partial)
  editRecord(partial, changes)
}

test('after a SIGKILL the next download asks only for the rest', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(4 * MiB)
  const kept = MiB + 12_345
  const url = await killAt(folder, { file: file.path }, kept)
  const model = await startDownload(url, folder.destination).outcome
  assertPublished(folder, file)
  assert.equal(model.resumedBytes, kept)
  assert.equal(model.downloadedBytes, file.bytes - kept)
  assert.equal(folder.server.bytesServed(path), file.bytes)
  const [, second] = folder.server.requests(path)
  assert.equal(second?.headers.range, `bytes=${kept}-`)
  assert.match(second?.headers['if-range']?.toString() ?? '', /^"/)
})

test('a SIGKILL costs no byte that came a moment before', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecond: 16 * MiB })
  const file = folder.payload(6 * MiB)
  const url = folder.server.serve(path, file.path)
  // In mid-block, and nothing comes after it.
  const come = 3 * MiB + 12_345
  folder.server.pause(path, come)
  const child = startDownload(url, folder.destination)
  await until(() => partialsIn(folder.models)[0]?.bytes === come)
  await child.kill()
  await folder.server.idle(path)
  folder.server.resume(path)
  await startDownload(url, folder.destination).outcome
  assertPublished(folder, file)
  assert.equal(folder.server.bytesServed(path), file.bytes)
})

test('the identity of the remote file is on disk before its first byte', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(MiB)
  const url = folder.server.serve(path, file.path)
  folder.server.pause(path, 100)
  const child = startDownload(url, folder.destination)
  await until(() => partialsIn(folder.models)[0]?.bytes === 100)
  const record = partialsIn(folder.models)[0]?.record
  assert.equal(record?.bytes, file.bytes)
  assert.equal(record?.source, url)
  assert.match(String(record?.etag), /^"/)
  await child.kill()
})

test('a remote file that was replaced between kill and resume is fetched from its beginning', async (t) => {
  const folder = await openDownloadFolder(t)
  const [before, after] = [folder.payload(2 * MiB), folder.payload(2 * MiB)]
  const url = await killAt(folder, { file: before.path }, MiB)
  folder.server.serve(path, after.path)
  const model = await startDownload(url, folder.destination).outcome
  assertPublished(folder, after)
  assert.equal(model.resumedBytes, 0)
})

test('a server that ignores If-Range cannot join two versions', async (t) => {
  const folder = await openDownloadFolder(t)
  const [before, after] = [folder.payload(2 * MiB), folder.payload(2 * MiB)]
  const url = await killAt(folder, { file: before.path }, MiB)
  folder.server.serve(path, after.path)
  folder.server.fault(path, { kind: 'ignore-if-range' })
  const model = await downloadFile({ source: resolveSource(url), destination: folder.destination })
  assertPublished(folder, after)
  assert.equal(model.resumedBytes, 0)
})

test('a server that ignores Range on resume gives the whole file anew', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(2 * MiB)
  const url = await killAt(folder, { file: file.path }, MiB)
  folder.server.fault(path, { kind: 'ignore-range' })
  const model = await startDownload(url, folder.destination).outcome
  assertPublished(folder, file)
  assert.equal(model.resumedBytes, 0)
  assert.equal(model.downloadedBytes, file.bytes)
  // By If-Range, and, since the whole file was answered though it is the same version, by If-Match.
  assert.equal(folder.server.requests(path).length, 1 + 2)
})

test('a server that answers another range than was asked for, or does not tell, is asked for the whole file', async (t) => {
  for (const kind of ['wrong-range', 'untold-range'] as const) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(2 * MiB)
    const url = await killAt(folder, { file: file.path }, MiB)
    folder.server.fault(path, { kind })
    const model = await downloadFile({ source: resolveSource(url), destination: folder.destination })
    assertPublished(folder, file)
    assert.equal(model.resumedBytes, 0)
  }
})

test('a server that answers a range with a shorter one is asked on', async (t) => {
  for (const bytes of [undefined, 2 * MiB]) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(2 * MiB)
    const url = await killAt(folder, { file: file.path }, MiB)
    // As after a first answer that did not tell the size.
    editTheRecord(folder.models, { bytes: undefined })
    folder.server.fault(path, { kind: 'short-range', bytes: 300_000 })
    const source = resolveSource({ url, ...(bytes && { bytes }) })
    const model = await downloadFile({ source, destination: folder.destination, ...quick })
    assertPublished(folder, file)
    assert.equal(model.resumedBytes, MiB)
    assert.equal(folder.server.requests(path).length, 1 + 4)
  }
})

test('without a strong ETag or a hash nothing is resumed', async (t) => {
  for (const etag of ['W/"weak"', null]) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(2 * MiB)
    const url = await killAt(folder, { file: file.path, etag }, MiB)
    const model = await downloadFile({ source: resolveSource(url), destination: folder.destination })
    assertPublished(folder, file)
    assert.equal(model.resumedBytes, 0)
    assert.equal(folder.server.requests(path)[1]?.headers.range, undefined)
  }
})

test('with an expected hash, resuming needs no ETag', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(2 * MiB)
  const url = await killAt(folder, { file: file.path, etag: null }, MiB, file.sha256)
  const source = resolveSource({ url, sha256: file.sha256 })
  const model = await downloadFile({ source, destination: folder.destination })
  assertPublished(folder, file)
  assert.equal(model.resumedBytes, MiB)
})

test('bytes written before a reboot are resumed only when a hash can prove them', async (t) => {
  for (const hashed of [false, true]) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(2 * MiB)
    const url = await killAt(folder, { file: file.path }, MiB)
    editTheRecord(folder.models, { bootId: 'an-earlier-boot' })
    const source = resolveSource(hashed ? { url, sha256: file.sha256 } : url)
    const model = await downloadFile({ source, destination: folder.destination })
    assertPublished(folder, file)
    assert.equal(model.resumedBytes, hashed ? MiB : 0)
  }
})

test('a partial with zeros at its end, as a power loss leaves it, is found out by the hash and fetched again', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(2 * MiB)
  const url = await killAt(folder, { file: file.path }, MiB)
  const partial = partialsIn(folder.models)[0]?.path ?? ''
  truncateSync(partial, MiB - 4096)
  truncateSync(partial, MiB)
  const source = resolveSource({ url, sha256: file.sha256 })
  const model = await downloadFile({ source, destination: folder.destination })
  assertPublished(folder, file)
  assert.equal(model.resumedBytes, 0)
})

test('a complete partial needs one more byte, and an oversized one is fetched again', async (t) => {
  for (const extra of [0, 5]) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(MiB)
    const url = await killAt(folder, { file: file.path }, MiB - 1)
    const [partial] = partialsIn(folder.models)
    assert.ok(partial)
    appendFileSync(partial.path, Buffer.concat([readFileSync(file.path).subarray(MiB - 1), Buffer.alloc(extra)]))
    writeFileSync(partial.recordPath, encodeRecord(partial.record, new Extents([{ start: 0, end: MiB }])))
    const model = await downloadFile({ source: resolveSource(url), destination: folder.destination })
    assertPublished(folder, file)
    assert.equal(model.downloadedBytes, extra === 0 ? 1 : file.bytes)
  }
})

test('a partial is not resumed for another URL, unless both expect the same hash', async (t) => {
  for (const hashed of [false, true]) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(2 * MiB)
    await killAt(folder, { file: file.path }, MiB, hashed ? file.sha256 : undefined)
    const url = folder.server.serve('/mirror.gguf', { file: file.path, etag: '"of the mirror"' })
    const source = resolveSource(hashed ? { url, sha256: file.sha256 } : url)
    const model = await downloadFile({ source, destination: folder.destination })
    assertPublished(folder, file)
    assert.equal(model.resumedBytes, hashed ? MiB : 0)
  }
})

test('a partial that a living process holds is left alone', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(2 * MiB)
  const url = folder.server.serve(path, file.path)
  folder.server.pause(path, MiB)
  const slow = startDownload(url, folder.destination)
  await until(() => partialsIn(folder.models)[0]?.bytes === MiB)
  const second = folder.server.serve('/second.gguf', file.path)
  const source = resolveSource({ url: second, sha256: file.sha256 })
  const model = await downloadFile({ source, destination: folder.destination })
  assert.equal(model.resumedBytes, 0)
  assert.equal(partialsIn(folder.models)[0]?.bytes, MiB)
  folder.server.resume(path)
  assert.equal((await slow.outcome).sha256, file.sha256)
  assertPublished(folder, file)
})

test('of many processes that find one partial, one takes it over', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(2 * MiB)
  const url = await killAt(folder, { file: file.path }, MiB)
  const outcomes = await Promise.all([1, 2, 3, 4].map(() => startDownload(url, folder.destination).outcome))
  const resumed = outcomes.filter((model) => model.resumedBytes > 0)
  assert.ok(resumed.length <= 1)
  assert.ok(outcomes.every((model) => model.sha256 === file.sha256))
  assertPublished(folder, file)
})

test('a connection that breaks is taken up again exactly where it broke, as long as new bytes come', async (t) => {
  for (const close of [false, true]) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(2 * MiB)
    const url = folder.server.serve(path, { file: file.path, close })
    folder.server.fault(path, { kind: 'cut-each', bytes: 128 * 1024 })
    // One retry only, so that fifteen cuts pass only because each connection brought something new.
    const options = { source: resolveSource(url), destination: folder.destination, retryDelaysMs: [1] }
    await downloadFile(options)
    assertPublished(folder, file)
    assert.equal(folder.server.requests(path).length, 16)
    assert.equal(folder.server.bytesServed(path), file.bytes)
  }
})

test('a connection that breaks under a weak identity begins again, and not for ever', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(MiB)
  const url = folder.server.serve(path, { file: file.path, etag: null })
  folder.server.fault(path, { kind: 'cut', atByte: MiB / 2 })
  const download = downloadFile({ source: resolveSource(url), destination: folder.destination, ...quick })
  await assert.rejects(download, { code: 'ERR_MODEL_NETWORK' })
  assert.equal(folder.server.requests(path).length, 1 + 3)
  assert.deepEqual(folder.list(), [])
})
