import assert from 'node:assert/strict'
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import type { TestContext } from 'node:test'
import { test } from 'node:test'
import { openDownloadFolder, published, sha256Of } from '../support/download-folder.ts'
import {
  downloadFile,
  findPublished,
  type ModelSource,
  resolveSource,
  verifyPublished,
} from '../support/download-internals.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'

async function openPublished(t: TestContext) {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(MiB)
  const url = folder.server.serve(path, file.path)
  await downloadFile({ source: resolveSource(url), destination: folder.destination })
  return { ...folder, file, url }
}

/** Changes one byte in place, and puts the mtime back if asked to. */
function flip(file: string, mtime?: Date): void {
  const handle = openSync(file, 'r+')
  writeSync(handle, Buffer.from([0xff, 0x00, 0xff, 0x00]), 0, 4, MiB / 2)
  closeSync(handle)
  if (mtime) utimesSync(file, mtime, mtime)
}

test('a published file that was truncated or changed in place is noticed and fetched again', async (t) => {
  for (const damage of [(file: string) => truncateSync(file, MiB / 2), (file: string) => flip(file), rmSync]) {
    const { destination, url, file, list, server } = await openPublished(t)
    damage(destination)
    assert.equal(await findPublished(destination, resolveSource(url)), undefined)
    assert.notEqual((await verifyPublished(destination)).verdict, 'intact')
    const model = await downloadFile({ source: resolveSource(url), destination })
    assert.equal(model.cached, false)
    assert.equal(sha256Of(destination), file.sha256)
    assert.deepEqual(list(), published)
    assert.equal(server.bytesServed(path), 2 * MiB)
  }
})

test('a change that hides behind the old mtime is found by hashing again, and by nothing less', async (t) => {
  const { destination, url, file } = await openPublished(t)
  const mtime = new Date(1_700_000_000_000)
  utimesSync(destination, mtime, mtime)
  const source = resolveSource(url)
  await downloadFile({ source, destination })
  flip(destination, mtime)
  assert.ok(await findPublished(destination, source))
  const verification = await verifyPublished(destination)
  assert.equal(verification.verdict, 'damaged')
  const model = await downloadFile({ source, destination, verifyAgain: true })
  assert.equal(model.cached, false)
  assert.equal(sha256Of(destination), file.sha256)
})

test('a file that became shorter is noticed whatever its mtime says', async (t) => {
  const { destination, url, file } = await openPublished(t)
  const mtime = new Date(1_700_000_000_000)
  utimesSync(destination, mtime, mtime)
  const source = resolveSource(url)
  await downloadFile({ source, destination })
  truncateSync(destination, MiB / 2)
  utimesSync(destination, mtime, mtime)
  assert.equal(statSync(destination).mtimeMs, mtime.getTime())
  assert.equal(await findPublished(destination, source), undefined)
  await downloadFile({ source, destination })
  assert.equal(sha256Of(destination), file.sha256)
})

test('verifying again an intact file asks the server nothing', async (t) => {
  const { destination, url, server, file } = await openPublished(t)
  const asked = server.requests(path).length
  const model = await downloadFile({ source: resolveSource(url), destination, verifyAgain: true })
  assert.deepEqual([model.cached, model.sha256], [true, file.sha256])
  assert.equal(server.requests(path).length, asked)
})

test('a file that was only touched is hashed and trusted again, without its bytes being fetched', async (t) => {
  const { destination, url, server, list } = await openPublished(t)
  const source = resolveSource(url)
  const asked = server.requests(path).length
  utimesSync(destination, new Date(), new Date(1_700_000_000_000))
  assert.equal(await findPublished(destination, source), undefined)
  assert.equal((await downloadFile({ source, destination })).cached, true)
  assert.ok(await findPublished(destination, source))
  assert.equal(server.requests(path).length, asked)
  assert.deepEqual(list(), published)
})

test('a file that was there before us is adopted when its hash is known, by the caller or the hub, and else used', async (t) => {
  for (const by of ['caller', 'hub', 'nobody'] as const) {
    const { server, destination, models, payload, list } = await openDownloadFolder(t)
    const file = payload(MiB)
    const headers = by === 'hub' ? { 'x-linked-etag': `"${file.sha256}"` } : {}
    const url = server.serve(path, { file: file.path, headers })
    const source = resolveSource((by === 'caller' ? { url, sha256: file.sha256 } : url) as ModelSource)
    mkdirSync(models)
    copyFileSync(file.path, destination)
    const model = await downloadFile({ source, destination })
    assert.equal(model.cached, true, by)
    assert.equal(model.downloadedBytes, 0)
    // Where the server is asked, its answer is cut off: what was on its way by then is lost.
    if (by === 'caller') assert.equal(server.bytesServed(path), 0)
    // By its size and structure alone it is used, and not vouched for.
    assert.equal(model.sha256, by === 'nobody' ? undefined : file.sha256)
    assert.deepEqual(list(), by === 'nobody' ? ['model.gguf'] : published)
    assert.equal((await findPublished(destination, source))?.sha256, model.sha256)
  }
})

test('a garbled, foreign or huge manifest counts as none', async (t) => {
  const { destination, url, models, file } = await openPublished(t)
  const source = resolveSource(url)
  for (const text of ['', '{', 'null', '[]', '{"version":2}', '{"version":1,"bytes":"1"}', ' '.repeat(1 << 20)]) {
    writeFileSync(`${models}/.model.gguf.os-mutex.json`, text)
    assert.equal(await findPublished(destination, source), undefined)
    assert.deepEqual(await verifyPublished(destination), { verdict: 'unknown' })
    const { cached, sha256 } = await downloadFile({ source, destination })
    assert.deepEqual([cached, sha256], [true, undefined])
    assert.equal(sha256Of(destination), file.sha256)
  }
})

test('what is not there cannot be verified', async (t) => {
  const { destination } = await openDownloadFolder(t)
  assert.deepEqual(await verifyPublished(destination), { verdict: 'absent' })
})
