// Rows of the table of faults: bodies and their heads. See support/faults.ts.
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { half, thenRest, told, underWay } from '../../support/fault-parts.ts'
import { type FaultScene, fault, path } from '../../support/faults.ts'
import { http10 } from '../../support/model-server/usual-faults.ts'
import type { Fault, Part } from '../../support/model-server.ts'

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
fault('a model that was uploaded by half', { guards: 'E18', ...notGguf, bytes: 300_000, only: 'one piece' }, (scene) =>
  cutShort(half(scene))(scene),
)
fault(
  'a model that was uploaded by half, over several connections',
  { guards: 'E18', ...notGguf, only: 'segmented' },
  async (scene) => cutShort(scene.file.bytes - 1024)(scene),
)
fault(
  'a model of which 25 bytes were uploaded',
  { guards: 'E18', ...notGguf, bytes: 300_000, only: 'one piece' },
  cutShort(25),
)

// Encodings

const bad = { guards: 'D13', ends: 'ERR_MODEL_BAD_RESPONSE', requests: 1 } as const
fault('a body that is said to be gzip', bad, { kind: 'gzip' })
fault('a body that is gzip', bad, { kind: 'compressed', encoding: 'gzip' })
fault('a body that is deflate', bad, { kind: 'compressed', encoding: 'deflate' })
fault('a body that is said to be br', bad, told({ 'content-encoding': 'br' }))
fault(
  'Content-Encoding: identity',
  { guards: 'D13', ends: 'right file', requests: 1, served: { headers: { 'content-encoding': 'identity' } } },
  (scene) => scene.get(),
)
fault(
  'a rest that is gzip',
  { guards: 'D13', ends: 'ERR_MODEL_BAD_RESPONSE', requests: 2 },
  thenRest({ kind: 'compressed', encoding: 'gzip' }),
)

// Lengths

fault('no length, until the connection closes', { ...bad, only: 'one piece' }, { kind: 'no-length', chunked: false })
fault(
  'no length, chunked',
  { guards: 'D13', ends: 'right file', requests: 1, only: 'one piece' },
  { kind: 'no-length', chunked: true },
)
fault(
  'no length, chunked, and cut',
  { guards: 'D13', ends: 'ERR_MODEL_NETWORK', requests: 4, etag: null, only: 'one piece' },
  (scene) => ({
    kind: 'no-length',
    chunked: true,
    cutAtByte: half(scene),
  }),
)
fault(
  'no length, chunked, cut, and resumed',
  { guards: 'D13', ends: 'right file', requests: 2, only: 'one piece' },
  (scene) => ({
    kind: 'no-length',
    chunked: true,
    cutAtByte: half(scene),
    times: 1,
  }),
)
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
  { guards: 'E15', ends: 'right file', requests: 1 },
  { kind: 'prelude', text: 'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n' },
)
fault(
  '102 before the answer, three times',
  { guards: 'E15', ends: 'right file', requests: 1 },
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

// What does not end

fault(
  'a body without end, chunked, and the size is known',
  { guards: 'E15', ends: 'ERR_MODEL_SIZE_MISMATCH', only: 'one piece' },
  (scene) => {
    scene.source = { bytes: scene.file.bytes }
    scene.server.fault(path, { kind: 'endless-body', chunked: true })
    // What is too much comes by itself.
    return underWay(scene, () => {}, scene.file.bytes)
  },
)
fault(
  'a body without end, until the connection closes',
  { guards: 'E15', ends: ['ERR_MODEL_BAD_RESPONSE', 'ERR_MODEL_NOT_GGUF'], only: 'one piece' },
  { kind: 'endless-body', chunked: false },
)
fault(
  'a head without end',
  { guards: 'E15', ends: 'ERR_MODEL_NETWORK', stallMs: 250, retryDelaysMs: [], only: 'one piece' },
  { kind: 'endless-head', everyMs: 50 },
)

// What waits for its fix

for (const encoding of ['', 'aws-chunked', 'none', 'binary', 'utf-8']) {
  fault(
    `Content-Encoding: "${encoding}" over plain bytes`,
    { guards: 'D13', ends: 'right file', requests: 1, served: { headers: { 'content-encoding': encoding } } },
    (scene) => scene.get(),
  )
}
fault(
  'HTTP/1.0 without a length, and the hash is known',
  { guards: 'D13', ends: 'right file', only: 'one piece' },
  (scene) => {
    scene.source = { sha256: scene.file.sha256 }
    return http10()
  },
)
fault(
  'informational answers without end',
  { guards: 'E15', ends: 'ERR_MODEL_NETWORK', stallMs: 250, retryDelaysMs: [], only: 'one piece' },
  { kind: 'endless-informational', everyMs: 50 },
)
