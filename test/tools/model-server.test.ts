// The model server is what the download is judged by: it answers as RFC 9110 wants, and goes wrong exactly as it is told to.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { openDownloadFolder } from '../support/download-folder.ts'
import { judge } from '../support/model-server/conditions.ts'
import { Signer } from '../support/model-server/signer.ts'
import { busy, http10, hubRefusal, rateLimited, trickle } from '../support/model-server/usual-faults.ts'
import type { Validators } from '../support/model-server/validators.ts'
import { VersionedFiles } from '../support/model-server/versions.ts'
import { etagPerNode, type Fault, type ModelServerOptions, type ServedFile } from '../support/model-server.ts'
import { type RawRequest, rawRequest } from '../support/raw-request.ts'

const KiB = 1024
const path = '/model.gguf'

interface Bench {
  readonly served: Partial<ServedFile>
  readonly options: ModelServerOptions
  readonly bytes: number
  readonly fault: Fault | readonly Fault[]
}

async function open(t: TestContext, { served = {}, options = {}, bytes = 8 * KiB, fault }: Partial<Bench> = {}) {
  const folder = await openDownloadFolder(t, options)
  const file = folder.payload(bytes)
  const url = folder.server.serve(path, { file: file.path, ...served })
  folder.server.fault(path, fault)
  const content = readFileSync(file.path)
  const ask = (request?: RawRequest) => rawRequest(url, request)
  return { ...folder, file, url, content, ask }
}

const modified = new Date('2024-05-01T12:00:00Z')
const at = (date: string) => ({ lastModified: modified, date: new Date(date) })
const later = at('2024-05-02T12:00:00Z')

// Conditions, one by one (RFC 9110, 13.1), and in what order (13.2.2)

const none: Validators = { etag: undefined, lastModified: undefined, date: undefined }
const strong = { ...none, etag: '"a"' }
const weak = { ...none, etag: 'W/"a"' }
const dated = { ...none, ...later }
const [same, before, after] = ['01 May 2024 12:00:00', '30 Apr 2024 12:00:00', '01 May 2024 12:00:01'].map(
  (text) => `Wed, ${text} GMT`,
) as [string, string, string]
const whole = 'send whole'
const part = 'send range'
const rows: [string, Record<string, string>, Validators, string][] = [
  ['If-Match: the ETag', { 'if-match': '"b", "a"' }, strong, part],
  ['If-Match: another', { 'if-match': '"b"' }, strong, '412'],
  ['If-Match compares strongly', { 'if-match': 'W/"a"' }, weak, '412'],
  ['If-Match: *', { 'if-match': '*' }, none, part],
  ['If-Match, and no ETag', { 'if-match': '"a"' }, none, '412'],
  ['If-Unmodified-Since: the date', { 'if-unmodified-since': same }, dated, part],
  ['If-Unmodified-Since: before it', { 'if-unmodified-since': before }, dated, '412'],
  ['If-Unmodified-Since: no date', { 'if-unmodified-since': 'yesterday' }, dated, part],
  ['If-Unmodified-Since, and no Last-Modified', { 'if-unmodified-since': before }, strong, part],
  ['If-None-Match: the ETag', { 'if-none-match': '"b", "a"' }, strong, '304'],
  ['If-None-Match: another', { 'if-none-match': '"b"' }, strong, part],
  ['If-None-Match compares weakly', { 'if-none-match': '"a"' }, weak, '304'],
  ['If-None-Match: an ETag with a comma', { 'if-none-match': '"x,y", "z"' }, { ...none, etag: '"x,y"' }, '304'],
  ['If-None-Match: *', { 'if-none-match': '*' }, none, '304'],
  ['If-Modified-Since: the date', { 'if-modified-since': same }, dated, '304'],
  ['If-Modified-Since: before it', { 'if-modified-since': before }, dated, part],
  [
    'If-Match comes before If-Unmodified-Since',
    { 'if-match': '"a"', 'if-unmodified-since': before },
    { ...dated, etag: '"a"' },
    part,
  ],
  [
    'If-None-Match comes before If-Modified-Since',
    { 'if-none-match': '"b"', 'if-modified-since': same },
    { ...dated, etag: '"a"' },
    part,
  ],
  ['412 comes before 304', { 'if-match': '"b"', 'if-none-match': '"a"' }, strong, '412'],
  ['304 comes before 206', { 'if-none-match': '"a"', 'if-range': '"a"' }, strong, '304'],
  ['If-Range: the ETag', { 'if-range': '"a"' }, strong, part],
  ['If-Range: another', { 'if-range': '"b"' }, strong, whole],
  ['If-Range: a weak ETag', { 'if-range': 'W/"a"' }, weak, whole],
  ['If-Range: a date that is strong', { 'if-range': same }, dated, part],
  ['If-Range: a later date', { 'if-range': after }, dated, whole],
  ['If-Range: a date of the same second', { 'if-range': same }, { ...none, ...at('2024-05-01T12:00:00Z') }, whole],
  ['If-Range: a date, and the answers have none', { 'if-range': same }, { ...dated, date: undefined }, whole],
  ['If-Range: a date, and no Last-Modified', { 'if-range': same }, strong, whole],
]
for (const [name, headers, now, expected] of rows) {
  test(`${name}: ${expected}`, () => {
    const verdict = judge('GET', headers, now)
    assert.equal(verdict.is === 'send' ? (verdict.range ? part : whole) : String(verdict.is), expected)
  })
}
test('a HEAD has no range, and what is no read gets 412 for 304', () => {
  assert.deepEqual(judge('HEAD', {}, strong), { is: 'send', range: false })
  assert.deepEqual(judge('POST', { 'if-none-match': '"a"' }, strong), { is: 412 })
})

test('an answer of 304 or 412 has the validators and no bytes of the file', async (t) => {
  const { ask, server } = await open(t, { served: { etag: '"a"', ...later } })
  const unchanged = await ask({ headers: { 'if-none-match': 'W/"a"' } })
  assert.deepEqual([unchanged.status, unchanged.headers.etag, unchanged.body.length], [304, '"a"', 0])
  assert.equal(unchanged.headers['last-modified'], modified.toUTCString())
  assert.equal((await ask({ headers: { 'if-match': '"b"', range: 'bytes=1-' } })).status, 412)
  assert.equal(server.bytesServed(path), 0)
  const rest = await ask({ headers: { 'if-unmodified-since': modified.toUTCString(), range: 'bytes=8000-' } })
  assert.deepEqual([rest.status, rest.headers['content-range'], rest.body.length], [206, 'bytes 8000-8191/8192', 192])
})

test('a server may know no conditions but If-Range', async (t) => {
  const { ask } = await open(t, { served: { etag: '"a"', conditions: 'ignored' } })
  assert.equal((await ask({ headers: { 'if-none-match': '"a"' } })).status, 200)
  assert.equal((await ask({ headers: { range: 'bytes=1-', 'if-range': '"a"' } })).status, 206)
})

// Validators

test('validators: an ETag per node, a weak one, a date alone, and none', async (t) => {
  const { ask, serve } = await withServe(t)
  serve({ etag: etagPerNode })
  assert.deepEqual([(await ask()).headers.etag, (await ask({ method: 'HEAD' })).headers.etag], ['"node-1"', '"node-2"'])
  const foreign = await ask({ headers: { range: 'bytes=1-', 'if-range': '"node-2"' } })
  assert.deepEqual([foreign.status, foreign.headers.etag], [200, '"node-3"'])
  serve({ etag: 'W/"a"' })
  assert.equal((await ask()).headers.etag, 'W/"a"')
  serve({ etag: null, ...later })
  const { headers } = await ask()
  assert.deepEqual([headers.etag, headers['last-modified'], headers.date], [undefined, same, later.date.toUTCString()])
  serve({ etag: null, date: null })
  const bare = (await ask()).headers
  assert.deepEqual([bare.etag, bare['last-modified'], bare.date], [undefined, undefined, undefined])
})

async function withServe(t: TestContext) {
  const scene = await open(t)
  const serve = (served: Partial<ServedFile>) => scene.server.serve(path, { file: scene.file.path, ...served })
  return { ...scene, serve }
}

test('If-Range can be answered with the whole file, or refused', async (t) => {
  const { ask, serve } = await withServe(t)
  const rest = { headers: { range: 'bytes=1-', 'if-range': '"a"' } }
  serve({ etag: '"a"', ifRange: 'whole' })
  assert.equal((await ask(rest)).status, 200)
  serve({ etag: '"a"', ifRange: { refusedWith: 400 } })
  assert.equal((await ask(rest)).status, 400)
  assert.equal((await ask({ headers: { range: 'bytes=1-', 'if-match': '"a"' } })).status, 206)
})

test('HEAD is counted apart, has no body, and can be refused', async (t) => {
  const { ask, serve, server } = await withServe(t)
  const head = await ask({ method: 'HEAD' })
  assert.deepEqual([head.status, head.headers['content-length'], head.body.length], [200, '8192', 0])
  serve({ head: 'refused' })
  assert.deepEqual([(await ask({ method: 'HEAD' })).status, (await ask()).status], [405, 200])
  assert.deepEqual([server.requests(path, 'HEAD').length, server.requests(path, 'GET').length], [2, 1])
})

test('a Content-Encoding goes out as it was told, over plain bytes', async (t) => {
  const { ask, serve, content } = await withServe(t)
  for (const encoding of ['', 'aws-chunked', 'aws-chunked,', 'none', 'binary', 'utf-8']) {
    serve({ headers: { 'content-encoding': encoding } })
    const { headers, body } = await ask()
    assert.deepEqual([headers['content-encoding'], body.equals(content)], [encoding, true])
  }
})

// Connections

test('one slow connection of three, and the others are fast', async (t) => {
  const connection = (ordinal: number) => (ordinal === 2 ? { bytesPerSecond: 32 * KiB } : {})
  const { ask } = await open(t, { bytes: 32 * KiB, options: { connection } })
  const took: number[] = []
  for (let n = 1; n <= 3; n++) took.push((await ask()).chunks.at(-1)?.ms ?? 0)
  const [first = 0, slow = 0, third = 0] = took
  assert.ok(slow > 400 && first < slow / 2 && third < slow / 2, `${took}`)
})

test('connections die after some bytes of their own', async (t) => {
  const connection = (ordinal: number) => (ordinal === 1 ? { diesAfterBytes: 1_000 } : undefined)
  const { ask, server } = await open(t, { options: { connection } })
  const [cut, whole] = [await ask(), await ask()]
  assert.deepEqual([cut.body.length, cut.isCut, whole.body.length, whole.isCut], [1_000, true, 8_192, false])
  assert.deepEqual(
    server.requests(path).map(({ connection }) => connection),
    [1, 2],
  )
})

// Refusals

test('single requests are answered 503, with Retry-After', async (t) => {
  const { ask } = await open(t, { fault: busy([2, 4], '7') })
  const statuses: unknown[] = []
  for (let n = 1; n <= 5; n++) {
    const { status, headers } = await ask()
    statuses.push(headers['retry-after'] ?? status)
  }
  assert.deepEqual(statuses, [200, '7', 200, '7', 200])
})

test("the hub's rate limit counts down, and its window opens again", async (t) => {
  const { ask } = await open(t, { fault: rateLimited(300) })
  const { status, headers } = await ask()
  assert.deepEqual([status, headers.ratelimit, headers['retry-after']], [429, '"resolvers";r=0;t=1', undefined])
  await new Promise((resolve) => setTimeout(resolve, 350))
  assert.equal((await ask()).status, 200)
})

test("a refusal has the hub's words", async (t) => {
  const { ask } = await open(t, { fault: hubRefusal(403, 'GatedRepo', 'Ask first') })
  const { status, headers } = await ask()
  assert.deepEqual([status, headers['x-error-code'], headers['x-error-message']], [403, 'GatedRepo', 'Ask first'])
})

test('presigned URLs differ and mean one object; what is not signed, or no more, is refused', async (t) => {
  for (const style of ['amz', 'goog', 'cloudfront', 'azure'] as const) {
    const signed = new Signer(style)
    const { server, url } = await open(t, { served: { signed, head: 'refused' } })
    const [one, two] = [signed.sign(url), signed.sign(url)]
    assert.notEqual(one, two)
    const [a, b] = [await rawRequest(one), await rawRequest(two)]
    assert.deepEqual([a.status, b.status, a.headers.etag], [200, 200, b.headers.etag])
    for (const bad of [url, one.replace(/.{4}$/, '0000'), signed.sign(url, -1), one.replace(path, '/other.gguf')])
      assert.notEqual((await rawRequest(bad)).status, 200, bad)
    signed.expireAll()
    assert.deepEqual([(await rawRequest(two)).status, (await rawRequest(signed.sign(url))).status], [403, 200])
    assert.equal(server.requests(path)[0]?.path, one.slice(server.origin.length))
  }
})

// Time, and what does not end

test('the first byte comes late', async (t) => {
  const { ask } = await open(t, { served: { firstByteAfterMs: 200 } })
  const { headMs, body } = await ask()
  assert.ok(headMs >= 195 && body.length === 8 * KiB, `${headMs} ms`)
})

test('a trickle is one byte a tick from an offset on', async (t) => {
  const { ask } = await open(t, { bytes: 110, fault: trickle(20, 100) })
  const { chunks, body } = await ask()
  assert.equal(body.length, 110)
  const single = chunks.filter(({ bytes }) => bytes === 1)
  assert.ok(single.length >= 9 && (chunks.at(-1)?.ms ?? 0) >= 190, JSON.stringify(chunks))
})

test('informational answers come without end, and no answer after them', async (t) => {
  const { ask, server } = await open(t, { fault: { kind: 'endless-informational', everyMs: 2 } })
  await assert.rejects(ask({ untilInformational: 20 }), /20 informational answers/)
  await server.idle(path)
})

test('a head grows without end', async (t) => {
  const { server } = await open(t, { fault: { kind: 'endless-head', everyMs: 2 } })
  const socket = connect(Number(new URL(server.origin).port), '127.0.0.1')
  socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
  let text = ''
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    text += chunk.toString()
    if (text.length > 60) break
  }
  assert.match(text, /^HTTP\/1\.1 200 OK\r\nX: x{20}x*$/)
  await server.idle(path)
})

for (const chunked of [true, false]) {
  test(`a body goes on behind the file's end, ${chunked ? 'chunked' : 'until the connection closes'}`, async (t) => {
    const { ask, server, content } = await open(t, { fault: { kind: 'endless-body', chunked } })
    const { body, headers } = await ask({ untilBytes: 500 * KiB })
    assert.ok(body.length >= 500 * KiB && body.subarray(0, content.length).equals(content))
    assert.equal(headers['content-length'], undefined)
    assert.equal(headers['transfer-encoding'], chunked ? 'chunked' : undefined)
    await server.idle(path)
  })
}

test('HTTP/1.0 has no length: the body ends with the connection', async (t) => {
  const { ask, content } = await open(t, { fault: http10() })
  const { httpVersion, headers, body } = await ask({ headers: { range: 'bytes=5-' } })
  assert.deepEqual([httpVersion, headers['content-length'], body.equals(content)], ['1.0', undefined, true])
})

test('a Location is sent in raw UTF-8 bytes', async (t) => {
  const { ask } = await open(t, { fault: { kind: 'redirect', to: '/größe/模型.gguf' } })
  const { headers } = await ask()
  assert.equal(Buffer.from(headers.location ?? '', 'latin1').toString(), '/größe/模型.gguf')
})

// Versions

test('the files of a split model change in one moment, in the middle of a transfer', async (t) => {
  const { server, payload } = await open(t)
  const [one, two] = ['/m-00001-of-00002.gguf', '/m-00002-of-00002.gguf'] as const
  const make = () => ({ [one]: payload(200 * KiB).path, [two]: payload(200 * KiB).path })
  const files = { v1: make(), v2: make() }
  const versions = new VersionedFiles(server, files, 'v1')
  server.pause(one, 100 * KiB)
  const first = rawRequest(server.origin + one)
  await versions.switchAt(one, 100 * KiB, 'v2')
  const answers = [await first, await rawRequest(server.origin + two), await rawRequest(server.origin + one)]
  assert.deepEqual(
    answers.map(({ headers }) => headers['x-repo-commit']),
    ['v1', 'v2', 'v2'],
  )
  for (const [index, file] of [files.v1[one], files.v2[two], files.v2[one]].entries())
    assert.ok(answers[index]?.body.equals(readFileSync(file ?? '')))
})

test('a file that changes on the disk has another ETag', async (t) => {
  const { ask, models } = await open(t)
  const before = (await ask()).headers.etag
  const { server } = await open(t)
  const file = join(models, '..', 'changes.gguf')
  writeFileSync(file, 'one')
  const url = server.serve('/changes', file)
  const one = (await rawRequest(url)).headers.etag
  writeFileSync(file, 'two, which is longer')
  const two = (await rawRequest(url)).headers.etag
  assert.equal(new Set([before, one, two]).size, 3)
})
