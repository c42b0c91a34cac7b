// One file over several connections.
import assert from 'node:assert/strict'
import { readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { Agent, type Dispatcher } from 'undici/index.js'
import {
  assertPublished,
  type DownloadFolder,
  openDownloadFolder,
  partialsIn,
  published,
  sha256Of,
  until,
} from '../support/download-folder.ts'
import {
  type DownloadProgress,
  decodeMap,
  downloadFile,
  Extents,
  encodeMap,
  resolveSource,
} from '../support/download-internals.ts'
import { startDownload } from '../support/download-process.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'
const quick = { retryDelaysMs: [1, 2, 4] }

/** What the map of the one partial says is there. */
function mapped(folder: DownloadFolder): Extents {
  return partialsIn(folder.models)[0]?.extents ?? new Extents()
}

function garbleMap(recordPath: string): void {
  const record = readFileSync(recordPath)
  writeFileSync(recordPath, record.fill(7, record.length - 2048))
}

/** Kills a download over four connections, in mid-file. Returns which bytes it left. */
async function killInSegments(folder: DownloadFolder, url: string, total: number): Promise<Extents> {
  const child = startDownload(url, folder.destination, 4)
  await until(() => {
    const extents = mapped(folder)
    return extents.ranges.length >= 2 && extents.bytes > total / 8
  })
  await child.kill()
  await folder.server.idle(path)
  return mapped(folder)
}

test('where each connection is slow, several share the work, and no byte comes twice', async (t) => {
  for (const connections of [undefined, 3]) {
    const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 8 * MiB })
    const file = folder.payload(20 * MiB)
    const source = resolveSource(folder.server.serve(path, file.path))
    const model = await downloadFile({ source, destination: folder.destination, connections })
    assertPublished(folder, file)
    assert.ok(folder.server.mostAtOnce(path) >= 3)
    // What is under way when a stretch is shortened comes twice, and not a stretch.
    assert.ok(model.downloadedBytes < file.bytes + 2 * MiB, `${model.downloadedBytes} of ${file.bytes}`)
  }
})

// Long enough that a busy machine has judged the trial before the last quarter.
test('where one connection fills the line, others are tried and leave', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecond: 5 * MiB })
  const file = folder.payload(40 * MiB)
  const source = resolveSource(folder.server.serve(path, file.path))
  const late: number[] = []
  const onProgress = ({ done }: DownloadProgress) =>
    void (done > 0.75 * file.bytes && late.push(folder.server.atOnce(path)))
  const model = await downloadFile({ source, destination: folder.destination, onProgress })
  assertPublished(folder, file)
  assert.ok(folder.server.mostAtOnce(path) > 1)
  assert.equal(late.length > 0 && Math.max(...late), 1)
  assert.ok(model.downloadedBytes < file.bytes + 2 * MiB)
})

test('`connections: 1` uses one', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 32 * MiB })
  const file = folder.payload(20 * MiB)
  const source = resolveSource(folder.server.serve(path, file.path))
  await downloadFile({ source, destination: folder.destination, connections: 1 })
  assertPublished(folder, file)
  assert.equal(folder.server.requests(path).length, 1)
})

test('after a SIGKILL of several connections only the gaps are fetched', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 16 * MiB })
  const file = folder.payload(20 * MiB)
  const url = folder.server.serve(path, file.path)
  const left = await killInSegments(folder, url, file.bytes)
  const model = await downloadFile({ source: resolveSource(url), destination: folder.destination, connections: 4 })
  assertPublished(folder, file)
  assert.equal(model.resumedBytes, left.bytes)
  assert.ok(model.downloadedBytes < file.bytes - left.bytes + 2 * MiB)
})

test('a remote file that was replaced meanwhile is not joined to what was kept', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 16 * MiB })
  const [before, after] = [folder.payload(20 * MiB), folder.payload(20 * MiB)]
  const url = folder.server.serve(path, before.path)
  await killInSegments(folder, url, before.bytes)
  folder.server.serve(path, after.path)
  const model = await downloadFile({ source: resolveSource(url), destination: folder.destination })
  assertPublished(folder, after)
  assert.equal(model.resumedBytes, 0)
})

test('a remote file that is replaced while several connections fetch it comes out whole and new', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 8 * MiB })
  const [before, after] = [folder.payload(20 * MiB), folder.payload(32 * MiB)]
  const url = folder.server.serve(path, before.path)
  const download = downloadFile({ source: resolveSource(url), destination: folder.destination, connections: 4 })
  await folder.server.requested(path, 4)
  await folder.server.reached(path, 4 * MiB)
  folder.server.serve(path, after.path)
  const model = await download
  // Answers under way go on with the old bytes, so it may be either, and never a mix.
  assert.ok(model.sha256 === before.sha256 || model.sha256 === after.sha256)
  assert.equal(sha256Of(folder.destination), model.sha256)
  assert.deepEqual(folder.list(), published)
})

test('pieces that do not fit together, though the server calls them one version, are fetched once more in one piece', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 16 * MiB })
  const [before, after] = [folder.payload(20 * MiB), folder.payload(20 * MiB)]
  const headers = { 'x-linked-etag': `"${after.sha256}"` }
  const url = folder.server.serve(path, { file: before.path, etag: '"same"', headers })
  const source = resolveSource(url)
  const download = downloadFile({ source, destination: folder.destination, connections: 4 })
  await folder.server.requested(path, 4)
  folder.server.serve(path, { file: after.path, etag: '"same"', headers })
  await download
  assertPublished(folder, after)
})

test('a map that is missing, garbled or of a shorter file makes nothing of the partial count', async (t) => {
  for (const harm of ['garbled', 'cut'] as const) {
    const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 16 * MiB })
    const file = folder.payload(20 * MiB)
    const url = folder.server.serve(path, file.path)
    await killInSegments(folder, url, file.bytes)
    const [partial] = partialsIn(folder.models)
    assert.ok(partial)
    if (harm === 'garbled') garbleMap(partial.recordPath)
    else truncateSync(partial.path, 100)
    const model = await downloadFile({ source: resolveSource(url), destination: folder.destination })
    assertPublished(folder, file)
    assert.equal(model.resumedBytes, 0)
  }
})

test('a server that takes one connection only is served by one', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 32 * MiB })
  const file = folder.payload(20 * MiB)
  const source = resolveSource(folder.server.serve(path, file.path))
  folder.server.pause(path, MiB)
  const download = downloadFile({ source, destination: folder.destination, connections: 4, ...quick })
  download.catch(() => {})
  await folder.server.requested(path, 1)
  folder.server.fault(path, { kind: 'status', status: 503 })
  folder.server.resume(path)
  await folder.server.requested(path, 4)
  folder.server.fault(path, undefined)
  await download
  assertPublished(folder, file)
})

test('a server that promises ranges and gives none is asked for the file once, by the connection that brings it', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 10 * MiB })
  const file = folder.payload(20 * MiB)
  const source = resolveSource(folder.server.serve(path, file.path))
  folder.server.fault(path, { kind: 'ignore-range' })
  for (const connections of [undefined, 6]) {
    const model = await downloadFile({
      source,
      destination: folder.destination,
      connections,
      fetch: 'always',
      ...quick,
    })
    assertPublished(folder, file)
    assert.ok(model.downloadedBytes <= file.bytes, `${model.downloadedBytes} of ${file.bytes}`)
    rmSync(folder.destination)
  }
})

// Undici sends a request again, into the same handler, when the connection that it shares with another one is called off.
test('a dispatcher that sends a request again in mid-answer joins nothing', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(20 * MiB)
  const source = resolveSource(folder.server.serve(path, file.path))
  let again = 0
  const agent = new Agent()
  t.after(() => agent.destroy())
  const dispatcher = agent.compose((dispatch) => (options, handler) => {
    let bytes = 0
    const twice: Dispatcher.DispatchHandler = {
      onRequestStart: (controller, context) => handler.onRequestStart?.(controller, context),
      onResponseStart: (...answer) => handler.onResponseStart?.(...answer),
      onResponseData: (controller, chunk) => {
        handler.onResponseData?.(controller, chunk)
        bytes += chunk.length
        if (bytes < 100_000 || again > 0) return
        again++
        controller.abort(new Error('called off'))
      },
      onResponseEnd: (...end) => handler.onResponseEnd?.(...end),
      onResponseError: (controller, error) => {
        if (error.message === 'called off') dispatch(options, handler)
        else handler.onResponseError?.(controller, error)
      },
    }
    return dispatch(options, twice)
  })
  await downloadFile({ source, destination: folder.destination, connections: 1, dispatcher, ...quick })
  assert.equal(again, 1)
  assertPublished(folder, file)
})

test('a server that has no ranges after all gives the whole file', async (t) => {
  const folder = await openDownloadFolder(t, { bytesPerSecondPerConnection: 32 * MiB })
  const file = folder.payload(20 * MiB)
  const source = resolveSource(folder.server.serve(path, file.path))
  folder.server.fault(path, { kind: 'ignore-range' })
  await downloadFile({ source, destination: folder.destination, connections: 4, ...quick })
  assertPublished(folder, file)
})

test('connections that break again and again bring the file all the same', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(20 * MiB)
  const source = resolveSource(folder.server.serve(path, file.path))
  folder.server.fault(path, { kind: 'cut-each', bytes: 3 * MiB })
  await downloadFile({ source, destination: folder.destination, connections: 4, ...quick })
  assertPublished(folder, file)
})

test('extents join, and know their gaps', () => {
  const extents = new Extents([
    { start: 10, end: 20 },
    { start: 30, end: 40 },
    { start: 40, end: 40 },
  ])
  assert.deepEqual(extents.missing(50), [
    { start: 0, end: 10 },
    { start: 20, end: 30 },
    { start: 40, end: 50 },
  ])
  assert.equal(extents.frontier, 0)
  extents.add(20, 30)
  extents.add(0, 12)
  assert.deepEqual(extents.ranges, [{ start: 0, end: 40 }])
  assert.deepEqual([extents.frontier, extents.bytes, extents.missing(40)], [40, 40, []])
  extents.add(5, 8)
  assert.equal(extents.bytes, 40)
  assert.deepEqual(extents.missing(35), [])
})

test('of the two copies of a map the newest whole one counts', () => {
  const [older, newer] = [new Extents([{ start: 0, end: 100 }]), new Extents([{ start: 0, end: 200 }])]
  const map = Buffer.alloc(2048)
  for (const [extents, sequence] of [
    [older, 6],
    [newer, 7],
  ] as const) {
    const { copy, offset } = encodeMap(extents, sequence)
    copy.copy(map, offset)
  }
  assert.equal(decodeMap(map, 1000)?.extents.bytes, 200)
  for (let torn = 0; torn < 1024; torn += 37) {
    const broken = Buffer.from(map)
    broken[1024 + torn] = (broken[1024 + torn] ?? 0) ^ 0x80
    assert.equal(decodeMap(broken, 1000)?.extents.bytes, 100, `torn at ${torn}`)
  }
  assert.equal(decodeMap(map, 150)?.extents.bytes, 100, 'one that claims more than the file has is not whole')
  assert.equal(decodeMap(Buffer.alloc(2048), 1000), undefined)
  assert.equal(decodeMap(Buffer.alloc(10), 1000), undefined)
})
