// Rows of the table of faults: what a server may answer. See support/faults.ts.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { type FaultScene, fault, path } from '../../support/faults.ts'
import { type Fault, ModelServer, type Part } from '../../support/model-server.ts'

const half = ({ file }: FaultScene) => Math.floor(file.bytes / 2)
/** The first answer breaks in the middle; those that follow, for the rest, are so. */
const thenRest = (rest: Fault) => (scene: FaultScene) => [{ kind: 'cut', atByte: half(scene), times: 1 } as const, rest]
const status = (code: number, headers: Record<string, string> = {}, times?: number): Fault => ({
  kind: 'status',
  status: code,
  headers,
  ...(times !== undefined && { times }),
})
const told = (headers: Record<string, string | null>): Fault => ({ kind: 'headers', headers: () => headers })
/** Other headers for answers to requests for a range. */
const toldOfRange = (headers: (part: Part) => Record<string, string | null>): Fault => ({
  kind: 'headers',
  headers: (part) => (part.isRange ? headers(part) : {}),
})

// Statuses

for (const code of [204, 304, 400, 401, 403, 404, 410, 416, 451]) {
  fault(`status ${code}`, { ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 }, status(code))
}
for (const code of [408, 429, 500, 502, 503, 504]) {
  fault(`status ${code}, each time`, { ends: 'ERR_MODEL_HTTP_STATUS', requests: 4 }, status(code))
}
fault('status 503, three times', { ends: 'right file', requests: 4 }, status(503, {}, 3))
fault(
  'status 206 that nobody asked for',
  { ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 },
  {
    kind: 'headers',
    status: 206,
    headers: ({ size }) => ({ 'content-range': `bytes 0-${size - 1}/${size}` }),
  },
)
fault('status 401 for the rest', { ends: 'ERR_MODEL_HTTP_STATUS', requests: 2 }, thenRest(status(401)))
fault('status 404 for the rest', { ends: 'ERR_MODEL_HTTP_STATUS', requests: 2 }, thenRest(status(404)))
fault('status 416 for the rest, once', { ends: 'right file', requests: 3 }, thenRest(status(416, {}, 1)))
fault('status 416 for the rest, and for all', { ends: 'ERR_MODEL_HTTP_STATUS', requests: 3 }, thenRest(status(416)))

// Retry-After: kept to when it is short, and never 1000 times as long

const waits = (atLeastMs: number, atMostMs: number, retryAfter: () => string) => async (scene: FaultScene) => {
  scene.server.fault(path, status(503, { 'retry-after': retryAfter() }, 1))
  const begun = performance.now()
  const ending = await scene.get()
  const tookMs = performance.now() - begun
  assert.ok(tookMs >= atLeastMs && tookMs < atMostMs, `waited ${tookMs} ms`)
  return ending
}
const date = (inMs: number) => new Date(Date.now() + inMs).toUTCString()
const twice = { ends: 'right file', requests: 2, only: 'one piece' } as const
fault(
  'Retry-After: 1',
  twice,
  waits(990, 4_000, () => '1'),
)
// A date has whole seconds only.
fault(
  'Retry-After: a date in 1.5 s',
  twice,
  waits(490, 5_000, () => date(1_500)),
)
fault(
  'Retry-After: a date that is over',
  twice,
  waits(0, 3_000, () => date(-3_600_000)),
)
fault(
  'Retry-After: garbage',
  twice,
  waits(0, 3_000, () => 'soon, or so'),
)
fault(
  'Retry-After: -5',
  twice,
  waits(0, 3_000, () => '-5'),
)
fault('Retry-After: a date, beside a Date that is none', twice, async (scene) => {
  scene.server.fault(path, status(503, { 'retry-after': date(1_500), date: 'today' }, 1))
  return scene.get()
})
const atOnce = { ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 } as const
fault('Retry-After: an hour', atOnce, () => status(503, { 'retry-after': '3600' }))
fault('Retry-After: a date in an hour', atOnce, () => status(429, { 'retry-after': date(3_600_000) }))
fault('Retry-After: 10^30', atOnce, () => status(503, { 'retry-after': `1${'0'.repeat(30)}` }))
fault('Retry-After: a date in the year 9999', atOnce, () =>
  status(503, { 'retry-after': 'Fri, 31 Dec 9999 23:59:59 GMT' }),
)

// What is not the model

const notGguf = { ends: 'ERR_MODEL_NOT_GGUF', requests: 1 } as const
fault('a login page with status 200', notGguf, { kind: 'html' })
fault('a login page for the rest', { ends: 'ERR_MODEL_NOT_GGUF', requests: 2 }, thenRest({ kind: 'html' }))
fault('a login page, where a partial waits', { ends: 'ERR_MODEL_NOT_GGUF', requests: 2 }, async (scene) => {
  await scene.leaveHalf()
  scene.server.fault(path, { kind: 'html' })
  const ending = await scene.get()
  assert.equal(scene.partials.length, 1, 'the partial waits on')
  return ending
})
const content = (bytes: Buffer) => (scene: FaultScene) => {
  const file = `${scene.file.path}-other`
  writeFileSync(file, bytes)
  scene.server.serve(path, file)
  scene.mends.push(() => scene.serve(scene.file))
  return scene.get()
}
fault('an empty body', { ...notGguf, only: 'one piece' }, content(Buffer.alloc(0)))
fault('an error in JSON, with status 200', { ...notGguf, only: 'one piece' }, content(Buffer.from('{"error":"no"}')))
fault('a file of zeros', { ...notGguf, only: 'one piece' }, content(Buffer.alloc(100_000)))

// A truncated model, uploaded as such: every promise about it is kept
const cutShort = (bytes: number) => async (scene: FaultScene) => {
  const { file } = scene
  const whole = scene.payload(file.bytes)
  return content(readFileSync(whole.path).subarray(0, bytes))(scene)
}
fault('a model that was uploaded without its last byte', { ...notGguf, bytes: 300_000, only: 'one piece' }, (scene) =>
  cutShort(scene.file.bytes - 1)(scene),
)
fault('a model that was uploaded by half', { ...notGguf, bytes: 300_000, only: 'one piece' }, (scene) =>
  cutShort(half(scene))(scene),
)
fault('a model that was uploaded by half, over several connections', { ...notGguf, only: 'segmented' }, async (scene) =>
  cutShort(scene.file.bytes - 1024)(scene),
)
fault('a model of which 25 bytes were uploaded', { ...notGguf, bytes: 300_000, only: 'one piece' }, cutShort(25))

// Encodings

const bad = { ends: 'ERR_MODEL_BAD_RESPONSE', requests: 1 } as const
fault('a body that is said to be gzip', bad, { kind: 'gzip' })
fault('a body that is gzip', bad, { kind: 'compressed', encoding: 'gzip' })
fault('a body that is deflate', bad, { kind: 'compressed', encoding: 'deflate' })
fault('a body that is said to be br', bad, told({ 'content-encoding': 'br' }))
fault(
  'a rest that is gzip',
  { ends: 'ERR_MODEL_BAD_RESPONSE', requests: 2 },
  thenRest({ kind: 'compressed', encoding: 'gzip' }),
)

// Lengths

fault('no length, until the connection closes', { ...bad, only: 'one piece' }, { kind: 'no-length', chunked: false })
fault(
  'no length, chunked',
  { ends: 'right file', requests: 1, only: 'one piece' },
  { kind: 'no-length', chunked: true },
)
fault(
  'no length, chunked, and cut',
  { ends: 'ERR_MODEL_NETWORK', requests: 4, etag: null, only: 'one piece' },
  (scene) => ({
    kind: 'no-length',
    chunked: true,
    cutAtByte: half(scene),
  }),
)
fault('no length, chunked, cut, and resumed', { ends: 'right file', requests: 2, only: 'one piece' }, (scene) => ({
  kind: 'no-length',
  chunked: true,
  cutAtByte: half(scene),
  times: 1,
}))
fault(
  'Content-Length too large, connection closed',
  { ends: 'ERR_MODEL_NETWORK', requests: 4, only: 'one piece' },
  {
    kind: 'raw',
    head: ({ size }) => `HTTP/1.1 200 OK\r\nContent-Length: ${size + 5_000}\r\n\r\n`,
    rest: 'body',
  },
)
fault(
  'Content-Length too large, connection kept',
  { ends: 'ERR_MODEL_NETWORK', stallMs: 250, retryDelaysMs: [], only: 'one piece' },
  (scene) => ({
    kind: 'promise',
    bytes: scene.file.bytes + 5_000,
  }),
)
fault('Content-Length too small: the body has more', { ends: 'ERR_MODEL_NOT_GGUF', only: 'one piece' }, (scene) => ({
  kind: 'promise',
  bytes: scene.file.bytes - 5_000,
}))
fault(
  'Content-Length too small, and the hash is known',
  { ends: 'ERR_MODEL_HASH_MISMATCH', only: 'one piece' },
  (scene) => {
    scene.source = { sha256: scene.file.sha256 }
    return { kind: 'promise', bytes: scene.file.bytes - 5_000 }
  },
)
fault(
  'Content-Length too small, and the size is known',
  { ends: 'ERR_MODEL_SIZE_MISMATCH', only: 'one piece' },
  (scene) => {
    scene.source = { bytes: scene.file.bytes }
    return { kind: 'promise', bytes: scene.file.bytes - 5_000 }
  },
)
const raw = (head: string | ((part: Part) => string), rest: 'body' | 'cut' | 'stall' = 'body'): Fault => ({
  kind: 'raw',
  head: typeof head === 'string' ? () => head : head,
  rest,
})
const garbled = { ends: 'ERR_MODEL_NETWORK', requests: 4 } as const
fault(
  'two Content-Lengths that differ',
  garbled,
  raw(({ size }) => `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\nContent-Length: 100\r\n\r\n`),
)
fault('Content-Length: -1', garbled, raw('HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'))
fault(
  'Content-Length and chunked at once',
  garbled,
  raw(({ size }) => `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\nTransfer-Encoding: chunked\r\n\r\n`),
)
fault('chunks that are none', garbled, raw('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'))
fault('no HTTP at all', garbled, raw('SSH-2.0-OpenSSH_9.6\r\n', 'cut'))
fault(
  'headers of 64 KiB',
  garbled,
  raw(({ size }) => `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\nX: ${'x'.repeat(65_536)}\r\n\r\n`),
)

// Informational answers, of which there may be any number before the answer proper (RFC 9110, 15.2)

fault(
  '103 before the answer',
  { ends: 'right file', requests: 1 },
  { kind: 'prelude', text: 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n' },
)
fault(
  '102 before the answer, three times',
  { ends: 'right file', requests: 1 },
  { kind: 'prelude', text: 'HTTP/1.1 102 Processing\r\n\r\n'.repeat(3) },
)
fault(
  '100 before the answer, unasked',
  { ends: ['right file', 'ERR_MODEL_NETWORK'] },
  { kind: 'prelude', text: 'HTTP/1.1 100 Continue\r\n\r\n' },
)
fault(
  '101 in place of an answer',
  garbled,
  raw('HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n', 'cut'),
)

// Ranges. Whoever does not continue just this file is asked for the whole of it.

const whole = { ends: 'right file', requests: 3 } as const
fault(
  'a rest that is the whole file: Range is ignored',
  { ends: 'right file', requests: 2 },
  thenRest({ kind: 'ignore-range' }),
)
fault('206 with another range', whole, thenRest({ kind: 'wrong-range' }))
fault('206 without Content-Range', whole, thenRest({ kind: 'untold-range' }))
fault('206 with a shorter range', { ends: 'right file' }, thenRest({ kind: 'short-range', bytes: 60_000 }))
fault(
  '206 with a range that goes on to the end',
  { ends: 'right file' },
  thenRest({ kind: 'other-range', of: ({ start, size }) => ({ start, end: size }) }),
)
fault(
  '206 with a range that begins earlier',
  whole,
  thenRest({ kind: 'other-range', of: ({ start, end }) => ({ start: start - 100, end }) }),
)
fault(
  '206 of another total',
  whole,
  thenRest(toldOfRange(({ start, end, size }) => ({ 'content-range': `bytes ${start}-${end - 1}/${size + 1}` }))),
)
fault(
  '206 of an unknown total',
  whole,
  thenRest(toldOfRange(({ start, end }) => ({ 'content-range': `bytes ${start}-${end - 1}/*` }))),
)
fault(
  '206 in another unit',
  whole,
  thenRest(toldOfRange(({ start, end, size }) => ({ 'content-range': `items ${start}-${end - 1}/${size}` }))),
)
fault(
  '206 whose Content-Range is garbage',
  whole,
  thenRest(toldOfRange(() => ({ 'content-range': 'bytes NaN-1e9/∞'.replace('∞', '?') }))),
)
fault('206 as multipart/byteranges', whole, thenRest({ kind: 'multipart' }))
fault(
  '206 whose body is shorter than it says',
  { ends: 'right file' },
  thenRest(toldOfRange(({ start, end }) => ({ 'content-length': String(Math.ceil((end - start) / 2)) }))),
)
fault('206 without a body', { ends: 'ERR_MODEL_NETWORK' }, thenRest(toldOfRange(() => ({ 'content-length': '0' }))))
fault(
  '206 whose body is longer than the range that it tells',
  { ends: 'right file' },
  thenRest(toldOfRange(({ start, size }) => ({ 'content-range': `bytes ${start}-${start + 9_999}/${size}` }))),
)
fault('206 with bytes of another file, and the hub knows the hash', { ends: 'right file' }, (scene) => {
  const other = scene.payload()
  scene.serve(scene.file, { headers: { 'x-linked-etag': `"${scene.file.sha256}"` } })
  return thenRest({ kind: 'other-bytes', file: other.path })(scene)
})

// Identities

fault('a weak ETag, cut once', { ends: 'right file', requests: 2, etag: 'W/"weak"', only: 'one piece' }, (scene) => ({
  kind: 'cut',
  atByte: half(scene),
  times: 1,
}))
fault(
  'a weak ETag, cut each time',
  { ends: 'ERR_MODEL_NETWORK', requests: 4, etag: 'W/"weak"', only: 'one piece' },
  (scene) => ({
    kind: 'cut',
    atByte: half(scene),
  }),
)
fault('another ETag for the rest', whole, thenRest(toldOfRange(() => ({ etag: '"another"' }))))
fault('no ETag for the rest', whole, thenRest(toldOfRange(() => ({ etag: null }))))
fault('a weak ETag for the rest', whole, thenRest(toldOfRange(({ size }) => ({ etag: `W/"${size}"` }))))
let versions = 0
const newEachTime: Fault = { kind: 'headers', headers: () => ({ etag: `"version ${versions++}"` }) }
fault('a new ETag with each answer', { ends: 'right file' }, newEachTime)
fault(
  'another ETag in each answer for the rest',
  { ends: 'right file' },
  thenRest(toldOfRange(() => ({ etag: `"version ${versions++}"` }))),
)
fault('If-Range ignored, and the file replaced meanwhile', { ends: 'right file' }, async (scene) => {
  await scene.leaveHalf()
  scene.serve(scene.payload())
  scene.server.fault(path, { kind: 'ignore-if-range' })
  return scene.get()
})
fault('replaced by another version between two tries', { ends: 'right file' }, async (scene) => {
  await scene.leaveHalf()
  scene.serve(scene.payload())
  return scene.get()
})
fault('replaced by a shorter version between two tries', { ends: 'right file' }, async (scene) => {
  await scene.leaveHalf()
  scene.serve(scene.payload(scene.file.bytes / 4))
  return scene.get()
})
fault('replaced by another version while its bytes come', { ends: 'right file' }, async (scene) => {
  const { server } = scene
  server.pause(path, half(scene))
  const download = scene.get()
  await server.reached(path, half(scene))
  scene.serve(scene.payload())
  server.resume(path)
  return download
})
for (const etag of ['nothing that is quoted', `"${'x'.repeat(5_000)}"`]) {
  fault(`an ETag of ${etag.length} characters`, { ends: 'right file', etag }, (scene) => ({
    kind: 'cut',
    atByte: half(scene),
    times: 1,
  }))
}

// Expectations

fault('the wrong hash expected', { ends: 'ERR_MODEL_HASH_MISMATCH', requests: 1 }, async (scene) =>
  scene.get({}, { sha256: 'ab'.repeat(32) }),
)
fault('a larger size expected', { ends: 'ERR_MODEL_SIZE_MISMATCH', requests: 1 }, async (scene) =>
  scene.get({}, { bytes: 67_000_000 }),
)
fault('a smaller size expected', { ends: 'ERR_MODEL_SIZE_MISMATCH', requests: 1 }, async (scene) =>
  scene.get({}, { bytes: 1_000 }),
)
fault('X-Linked-Etag of another file', { ends: 'ERR_MODEL_HASH_MISMATCH' }, (scene) => {
  scene.serve(scene.file, { headers: { 'x-linked-etag': `"${'cd'.repeat(32)}"` } })
  scene.mends.push(() => scene.serve(scene.file))
  return scene.get()
})
fault(
  'X-Linked-Etag of another file than the hash expected',
  { ends: 'ERR_MODEL_HASH_MISMATCH', requests: 1 },
  (scene) => {
    scene.source = { sha256: scene.file.sha256 }
    scene.serve(scene.file, { headers: { 'x-linked-etag': `"${'cd'.repeat(32)}"` } })
    scene.mends.push(() => scene.serve(scene.file))
    return scene.get()
  },
)
fault('X-Linked-Etag that is no hash', { ends: 'right file', requests: 1 }, (scene) => {
  scene.serve(scene.file, { headers: { 'x-linked-etag': '"0123456789abcdef0123456789abcdef01234567"' } })
  return scene.get()
})

// What is there already, and is asked after

fault('the file is asked after, and HEAD is refused', { ends: 'right file' }, async (scene) => {
  await scene.get()
  scene.serve(scene.payload())
  scene.server.fault(path, { kind: 'status', status: 405, times: 1 })
  const ending = await scene.get({ fetch: 'always' })
  assert.equal('model' in ending && ending.model.sha256, scene.file.sha256)
  return ending
})
// RFC 9110, 8.6: a server may leave it out of what answers HEAD.
fault('the file is asked after, and HEAD tells no length', { ends: 'right file' }, async (scene) => {
  await scene.get()
  scene.serve(scene.payload())
  scene.server.fault(path, { ...told({ 'content-length': null }), times: 1 })
  const ending = await scene.get({ fetch: 'always' })
  assert.ok(!('model' in ending) || ending.model.sha256 === scene.file.sha256)
  return ending
})
fault('the file is asked after, and the server is in trouble', { ends: 'ERR_MODEL_HTTP_STATUS' }, async (scene) => {
  await scene.get()
  scene.server.fault(path, status(503))
  return scene.get({ fetch: 'always' })
})
fault(
  'the file is asked after, and is a login page by now',
  { ends: ['ERR_MODEL_NOT_GGUF', 'ERR_MODEL_BAD_RESPONSE'] },
  async (scene) => {
    await scene.get()
    scene.server.fault(path, { kind: 'html' })
    return scene.get({ fetch: 'always' })
  },
)

// Redirects

const redirect = (to: string, code = 302): Fault => ({ kind: 'redirect', to, status: code })
fault('a redirect to itself', { ends: 'ERR_MODEL_BAD_RESPONSE', requests: 11 }, redirect(path))
fault('a redirect to itself with status 308', { ends: 'ERR_MODEL_BAD_RESPONSE', requests: 11 }, redirect(path, 308))
fault('a redirect without a location', { ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 }, status(302))
fault('a redirect to file:///etc/passwd', bad, redirect('file:///etc/passwd'))
fault('a redirect to ftp://', bad, redirect('ftp://127.0.0.1/model.gguf'))
fault('a redirect to data:', bad, redirect('data:application/octet-stream,GGUF'))
fault('a redirect to no URL', bad, redirect('http://[not-an-address'))
fault('a redirect to a login page', { ends: 'ERR_MODEL_NOT_GGUF', requests: 1 }, (scene) => {
  scene.server.serve('/login', scene.file.path)
  scene.server.fault('/login', { kind: 'html' })
  return redirect('/login')
})
const elsewhere = async (scene: FaultScene) => {
  const cdn = await ModelServer.start()
  scene.t.after(() => cdn.close())
  return cdn
}
fault('a redirect to another origin, and credentials', { ends: 'right file', requests: 1 }, async (scene) => {
  const cdn = await elsewhere(scene)
  const to = cdn.serve('/blob', scene.file.path)
  scene.server.fault(path, redirect(`${to}?signature=1`))
  scene.source = { headers: { authorization: 'Bearer of-the-hub', 'x-api-key': 'secret', cookie: 'secret' } }
  const ending = await scene.get()
  assert.equal(scene.server.requests(path)[0]?.headers.authorization, 'Bearer of-the-hub')
  assert.ok(cdn.requests('/blob').length >= 1)
  for (const { headers } of cdn.requests('/blob')) {
    assert.deepEqual([headers.authorization, headers['x-api-key'], headers.cookie], [undefined, undefined, undefined])
  }
  return ending
})
fault('a redirect to an origin that is gone', { ends: 'ERR_MODEL_NETWORK', requests: 4 }, async (scene) => {
  const cdn = await elsewhere(scene)
  const to = cdn.serve('/blob', scene.file.path)
  await cdn.close()
  scene.server.fault(path, redirect(to))
  return scene.get()
})
fault('a redirect whose signature is over when the rest is asked for', { ends: 'right file' }, async (scene) => {
  const cdn = await elsewhere(scene)
  const [old, fresh] = [cdn.serve('/old', scene.file.path), cdn.serve('/fresh', scene.file.path)]
  cdn.fault('/old', { kind: 'cut', atByte: half(scene) })
  scene.server.fault(path, [{ ...redirect(old), times: 1 }, redirect(fresh)])
  return scene.get()
})
