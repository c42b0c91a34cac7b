// Rows of the table of faults: how a server says which file it has, and which one was expected. See support/faults.ts.
import assert from 'node:assert/strict'
import { half, status, thenRest, told, toldOfRange } from '../../support/fault-parts.ts'
import { type FaultScene, fault, path } from '../../support/faults.ts'
import { etagPerNode, type Fault, type ServedFile } from '../../support/model-server.ts'

// Identities

const whole = { guards: 'A2', ends: 'right file', requests: 3 } as const
fault(
  'a weak ETag, cut once',
  { guards: 'A2', ends: 'right file', requests: 2, etag: 'W/"weak"', only: 'one piece' },
  (scene) => ({
    kind: 'cut',
    atByte: half(scene),
    times: 1,
  }),
)
fault(
  'a weak ETag, cut each time',
  { guards: 'A2', ends: 'ERR_MODEL_NETWORK', requests: 4, etag: 'W/"weak"', only: 'one piece' },
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
fault('a new ETag with each answer', { guards: 'A2', ends: 'right file' }, newEachTime)
fault(
  'another ETag in each answer for the rest',
  { guards: 'A2', ends: 'right file' },
  thenRest(toldOfRange(() => ({ etag: `"version ${versions++}"` }))),
)
fault('If-Range ignored, and the file replaced meanwhile', { guards: 'A2', ends: 'right file' }, async (scene) => {
  await scene.leaveHalf()
  scene.serve(scene.payload())
  scene.server.fault(path, { kind: 'ignore-if-range' })
  return scene.get()
})
fault('replaced by another version between two tries', { guards: 'A2', ends: 'right file' }, async (scene) => {
  await scene.leaveHalf()
  scene.serve(scene.payload())
  return scene.get()
})
fault('replaced by a shorter version between two tries', { guards: 'A2', ends: 'right file' }, async (scene) => {
  await scene.leaveHalf()
  scene.serve(scene.payload(scene.file.bytes / 4))
  return scene.get()
})
fault('replaced by another version while its bytes come', { guards: 'A2', ends: 'right file' }, async (scene) => {
  const { server } = scene
  server.pause(path, half(scene))
  const download = scene.get()
  await server.reached(path, half(scene))
  scene.serve(scene.payload())
  server.resume(path)
  return download
})
for (const etag of ['nothing that is quoted', `"${'x'.repeat(5_000)}"`]) {
  fault(`an ETag of ${etag.length} characters`, { guards: 'A2', ends: 'right file', etag }, (scene) => ({
    kind: 'cut',
    atByte: half(scene),
    times: 1,
  }))
}

fault('a URL of 6,000 characters, cut once', { guards: 'A1', ends: 'right file' }, (scene) => {
  const long = `/${'long/'.repeat(1_200)}model.gguf`
  scene.url = scene.serve(scene.file, {}, long)
  scene.server.fault(long, cutOnce(scene))
  scene.mends.push(() => scene.server.fault(long, undefined))
  return scene.get()
})

const cutOnce = (scene: FaultScene): Fault => ({ kind: 'cut', atByte: half(scene), times: 1 })
const lastModified = new Date('2024-05-01T12:00:00Z')
const resumable = { guards: 'A2', ends: 'right file', requests: 2, only: 'one piece' } as const
fault('an ETag per node, cut once', { ...resumable, served: { etag: etagPerNode } }, cutOnce)
fault('a Last-Modified alone, cut once', { ...resumable, served: { etag: null, lastModified } }, cutOnce)
fault(
  'a weak ETag and a Last-Modified, cut once',
  { ...resumable, served: { etag: 'W/"weak"', lastModified } },
  cutOnce,
)
fault('a Last-Modified of each node, cut once', { ...resumable, served: modifiedPerNode() }, cutOnce)
fault('neither ETag nor Date, cut once', { ...resumable, served: { etag: null, lastModified, date: null } }, cutOnce)

/** The rest is had by other words: no byte comes twice. */
const byIfMatch = async (scene: FaultScene) => {
  scene.server.fault(path, cutOnce(scene))
  const end = await scene.get()
  const { headers } = scene.server.requests(path).at(-1) ?? assert.fail('nothing was asked')
  assert.equal(headers.range, `bytes=${half(scene)}-`)
  assert.ok(headers['if-match'] !== undefined && headers['if-range'] === undefined)
  return end
}
const unread = { ...resumable, requests: 3 } as const
fault('If-Range answered with the whole file, cut once', { ...unread, served: { ifRange: 'whole' } }, byIfMatch)
for (const status of [400, 405, 412, 501]) {
  const served = { ifRange: { refusedWith: status } } as const
  fault(`If-Range refused with ${status}, cut once`, { ...unread, served }, byIfMatch)
}

function modifiedPerNode(): Partial<ServedFile> {
  return { etag: null, lastModified: (answer) => new Date(lastModified.getTime() + answer * 1000) }
}

// Expectations

fault('the wrong hash expected', { guards: 'E18', ends: 'ERR_MODEL_HASH_MISMATCH', requests: 1 }, async (scene) =>
  scene.get({}, { sha256: 'ab'.repeat(32) }),
)
fault('a larger size expected', { guards: 'E18', ends: 'ERR_MODEL_SIZE_MISMATCH', requests: 1 }, async (scene) =>
  scene.get({}, { bytes: 67_000_000 }),
)
fault('a smaller size expected', { guards: 'E18', ends: 'ERR_MODEL_SIZE_MISMATCH', requests: 1 }, async (scene) =>
  scene.get({}, { bytes: 1_000 }),
)
fault('X-Linked-Etag of another file', { guards: 'E18', ends: 'ERR_MODEL_HASH_MISMATCH' }, (scene) => {
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

// RFC 9110, 8.6: a server may leave it out of what answers HEAD.
fault('the file is asked after, and HEAD tells no length', { guards: 'A2', ends: 'right file' }, async (scene) => {
  await scene.get()
  scene.serve(scene.payload())
  scene.server.fault(path, { ...told({ 'content-length': null }), times: 1 })
  const ending = await scene.get({ fetch: 'always' })
  assert.ok(!('model' in ending) || ending.model.sha256 === scene.file.sha256)
  return ending
})
fault(
  'the file is asked after, and the server is in trouble',
  { guards: 'E18', ends: 'ERR_MODEL_HTTP_STATUS' },
  async (scene) => {
    await scene.get()
    scene.server.fault(path, status(503))
    return scene.get({ fetch: 'always' })
  },
)
fault(
  'the file is asked after, and is a login page by now',
  { ends: ['ERR_MODEL_NOT_GGUF', 'ERR_MODEL_BAD_RESPONSE'] },
  async (scene) => {
    await scene.get()
    scene.server.fault(path, { kind: 'html' })
    return scene.get({ fetch: 'always' })
  },
)
