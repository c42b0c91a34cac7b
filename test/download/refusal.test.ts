import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { type DownloadFolder, openDownloadFolder, partialsIn, published, sha256Of } from '../support/download-folder.ts'
import { downloadFile, resolveSource } from '../support/download-internals.ts'
import type { Fault } from '../support/model-server.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'
const quick = { retryDelaysMs: [1, 2, 4] }
const noModes = {
  skip: process.platform === 'win32' && 'on Windows a mode does not keep anyone from writing into a folder',
}

function get(
  folder: DownloadFolder,
  source: Parameters<typeof resolveSource>[0],
  limits: { headersTimeoutMs?: number; bodyTimeoutMs?: number } = {},
) {
  return downloadFile({ source: resolveSource(source), destination: folder.destination, ...quick, ...limits })
}

/** One error with this code, after so many requests, and an empty folder but for what was set aside as wrong. */
async function refuses(
  folder: DownloadFolder,
  source: Parameters<typeof resolveSource>[0],
  expected: { code: string; message: RegExp; requests: number; status?: number },
  limits?: { headersTimeoutMs: number },
): Promise<void> {
  const { requests, ...error } = expected
  await assert.rejects(get(folder, source, limits), { name: 'ModelDownloadError', ...error })
  assert.deepEqual(
    folder.list().filter((name) => !/\.os-mutex-rejected$/.test(name)),
    [],
  )
  assert.equal(folder.server.requests(path).length, requests)
}

test('a page of HTML is refused at its first bytes, and the message says what the server calls it', async (t) => {
  const folder = await openDownloadFolder(t)
  folder.server.fault(path, { kind: 'html' })
  const url = folder.server.serve(path, folder.payload(MiB).path)
  const message = /not a GGUF model: it begins with "<!do".*text\/html/
  await refuses(folder, url, { code: 'ERR_MODEL_NOT_GGUF', message, requests: 1 })
})

test('an empty, a short, a foreign, an old and a big-endian file are no models', async (t) => {
  const gguf = (version: number, tensors = 1n) => {
    const head = Buffer.alloc(64)
    head.write('GGUF', 0, 'latin1')
    head.writeUInt32LE(version, 4)
    head.writeBigUInt64LE(tensors, 8)
    return head
  }
  const cases: [Buffer, RegExp][] = [
    [Buffer.alloc(0), /it is empty/],
    [gguf(3).subarray(0, 20), /ends after 20 bytes/],
    [Buffer.alloc(100), /begins with/],
    [gguf(1), /version is 1/],
    [gguf(3).fill(Buffer.from([0, 0, 0, 3]), 4, 8), /big-endian/],
    [gguf(3, 1n << 40n), /claims 1099511627776 tensors/],
  ]
  for (const [content, message] of cases) {
    const folder = await openDownloadFolder(t)
    const file = `${folder.models}-content`
    writeFileSync(file, content)
    await refuses(folder, folder.server.serve(path, file), { code: 'ERR_MODEL_NOT_GGUF', message, requests: 1 })
  }
})

test('a refusal by the server is told at once, with status and address', async (t) => {
  for (const status of [401, 403, 404, 410, 418, 304]) {
    const folder = await openDownloadFolder(t)
    folder.server.fault(path, { kind: 'status', status })
    const message = new RegExp(`127\\.0\\.0\\.1:\\d+/model\\.gguf answered ${status}`)
    const url = folder.server.serve(path, folder.payload(MiB).path)
    await refuses(folder, url, { code: 'ERR_MODEL_HTTP_STATUS', message, status, requests: 1 })
  }
})

test('a server in trouble is asked again three times, and as soon as it says', async (t) => {
  for (const status of [408, 429, 500, 503]) {
    const folder = await openDownloadFolder(t)
    folder.server.fault(path, { kind: 'status', status })
    const url = folder.server.serve(path, folder.payload(MiB).path)
    await refuses(folder, url, { code: 'ERR_MODEL_HTTP_STATUS', message: /answered/, status, requests: 4 })
    folder.server.fault(path, { kind: 'status', status, times: 3 })
    await get(folder, url)
    assert.deepEqual(folder.list(), published)
  }
})

test('Retry-After is kept to in seconds and as a date, and a long one ends the download at once', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(MiB)
  const url = folder.server.serve(path, file.path)
  for (const later of [() => '1', () => new Date(Date.now() + 2_500).toUTCString()]) {
    const retryAfter = later()
    folder.server.fault(path, { kind: 'status', status: 503, headers: { 'retry-after': retryAfter }, times: 1 })
    const begun = performance.now()
    await downloadFile({
      source: resolveSource(url),
      destination: `${folder.destination}-${retryAfter.length}`,
      ...quick,
    })
    // A date has whole seconds only. The delay of this test's own would be 1 ms.
    assert.ok(performance.now() - begun > 500)
  }
  folder.server.fault(path, { kind: 'status', status: 503, headers: { 'retry-after': '3600' } })
  await assert.rejects(get(folder, url), { status: 503, retryAfterMs: 3_600_000, message: /left alone for 3600 s/ })
})

test('a file with another hash than expected is not published, and the error tells both', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(MiB)
  const sha256 = 'ab'.repeat(32)
  const message = new RegExp(`${file.sha256} instead of ${sha256}`)
  const source = { url: folder.server.serve(path, file.path), sha256 }
  await refuses(folder, source, { code: 'ERR_MODEL_HASH_MISMATCH', message, requests: 1 })
})

test('a file of another size than expected is refused before its bytes come', async (t) => {
  const folder = await openDownloadFolder(t)
  const file = folder.payload(8 * MiB)
  const source = { url: folder.server.serve(path, file.path), bytes: MiB }
  const message = /has 8388608 bytes instead of 1048576/
  await refuses(folder, source, { code: 'ERR_MODEL_SIZE_MISMATCH', message, requests: 1 })
  assert.ok(folder.server.bytesServed(path) < file.bytes)
})

test('a chunked file of another size than expected is refused where it shows', async (t) => {
  for (const bytes of [MiB - 1, MiB + 1]) {
    const folder = await openDownloadFolder(t)
    folder.server.fault(path, { kind: 'no-length', chunked: true })
    const source = { url: folder.server.serve(path, folder.payload(MiB).path), bytes }
    await refuses(folder, source, { code: 'ERR_MODEL_SIZE_MISMATCH', message: /bytes instead of/, requests: 1 })
  }
})

test('a body of unknown length, and one that is compressed, are refused', async (t) => {
  const faults: [Fault, RegExp][] = [
    [{ kind: 'no-length', chunked: false }, /does not tell how long/],
    [{ kind: 'gzip' }, /gzip/],
  ]
  for (const [fault, message] of faults) {
    const folder = await openDownloadFolder(t)
    folder.server.fault(path, fault)
    const url = folder.server.serve(path, folder.payload(MiB).path)
    await refuses(folder, url, { code: 'ERR_MODEL_BAD_RESPONSE', message, requests: 1 })
  }
})

test('a redirect loop, and a redirect to no URL, are refused', async (t) => {
  for (const [to, requests] of [
    [path, 11],
    ['ftp://example.org/model.gguf', 1],
  ] as const) {
    const folder = await openDownloadFolder(t)
    folder.server.fault(path, { kind: 'redirect', to })
    const url = folder.server.serve(path, folder.payload(MiB).path)
    await refuses(folder, url, { code: 'ERR_MODEL_BAD_RESPONSE', message: /redirects/, requests })
  }
})

test('a body that always ends early fails after three tries, and its partial can be resumed', async (t) => {
  for (const kind of ['cut', 'stall'] as const) {
    const folder = await openDownloadFolder(t)
    const file = folder.payload(MiB)
    const url = folder.server.serve(path, file.path)
    folder.server.fault(path, { kind, atByte: MiB / 2 })
    await assert.rejects(get(folder, url, { bodyTimeoutMs: 300 }), { code: 'ERR_MODEL_NETWORK' })
    assert.equal(folder.server.requests(path).length, 1 + 3)
    const [partial, ...others] = partialsIn(folder.models)
    assert.deepEqual([partial?.bytes, partial?.isHeld, others.length], [MiB / 2, false, 0])
    assert.ok(!existsSync(folder.destination))
    folder.server.fault(path, undefined)
    assert.equal((await get(folder, url)).resumedBytes, MiB / 2)
    assert.equal(sha256Of(folder.destination), file.sha256)
    assert.deepEqual(folder.list(), published)
  }
})

test('a server that accepts a request and never answers is given up', async (t) => {
  const folder = await openDownloadFolder(t)
  folder.server.fault(path, { kind: 'silent' })
  const url = folder.server.serve(path, folder.payload(MiB).path)
  const error = { code: 'ERR_MODEL_NETWORK', message: /no answer within 0.3 s/, requests: 4 }
  await refuses(folder, url, error, { headersTimeoutMs: 300 })
})

test('nobody listening is a network error that tells the address', async (t) => {
  const folder = await openDownloadFolder(t)
  const { origin } = folder.server
  await folder.server.close()
  await assert.rejects(get(folder, `${origin}/model.gguf`), { code: 'ERR_MODEL_NETWORK', message: /ECONNREFUSED/ })
  assert.deepEqual(folder.list(), [])
})

test('a partial of an earlier call survives a login page, and also when the file seems to be gone', async (t) => {
  const folder = await openDownloadFolder(t)
  const url = folder.server.serve(path, folder.payload(MiB).path)
  folder.server.fault(path, { kind: 'cut', atByte: MiB / 2 })
  await assert.rejects(get(folder, url))
  for (const [fault, error] of [
    [{ kind: 'status', status: 403 }, { status: 403 }],
    [{ kind: 'html' }, { code: 'ERR_MODEL_NOT_GGUF' }],
  ] as const) {
    folder.server.fault(path, fault)
    await assert.rejects(get(folder, url), error)
    assert.equal(partialsIn(folder.models)[0]?.bytes, MiB / 2)
  }
  folder.server.fault(path, { kind: 'status', status: 404 })
  await assert.rejects(get(folder, url), { status: 404 })
  // A token that was forgotten, a mirror that is not in sync: that is no reason to throw gigabytes away.
  assert.equal(partialsIn(folder.models)[0]?.bytes, MiB / 2)
  folder.server.fault(path, undefined)
  assert.equal((await get(folder, url)).resumedBytes, MiB / 2)
})

test('a target that is a folder is refused before anything is asked', async (t) => {
  const folder = await openDownloadFolder(t)
  const url = folder.server.serve(path, folder.payload(MiB).path)
  mkdirSync(folder.destination, { recursive: true })
  await assert.rejects(get(folder, url), {
    code: 'ERR_MODEL_FILE_SYSTEM',
    path: folder.destination,
    message: /not a file/,
  })
  assert.equal(folder.server.requests(path).length, 0)
})

test('a folder that cannot be written is told with its name', noModes, async (t) => {
  const folder = await openDownloadFolder(t)
  const url = folder.server.serve(path, folder.payload(MiB).path)
  mkdirSync(folder.models)
  chmodSync(folder.models, 0o555)
  chmodSync(dirname(folder.models), 0o755)
  // Root may write everywhere, so it is "nobody" for the time of the download.
  const isRoot = process.geteuid?.() === 0
  if (isRoot) process.seteuid?.(65534)
  try {
    await assert.rejects(get(folder, url), { code: 'ERR_MODEL_FILE_SYSTEM', message: /EACCES.*writable/ })
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
})
