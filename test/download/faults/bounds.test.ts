// Rows of the table of faults: what a download may cost in time, bytes and room. See support/faults.ts.
import assert from 'node:assert/strict'
import { readFileSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { DiskRoom, noRoom } from '../../support/disk-room.ts'
import { downloadFile, resolveRequest, resolveSource } from '../../support/download-internals.ts'
import { half, status } from '../../support/fault-parts.ts'
import { type FaultScene, fault, path } from '../../support/faults.ts'
import { Hub } from '../../support/model-server/hub.ts'
import { trickle } from '../../support/model-server/usual-faults.ts'
import { until } from '../../support/until.ts'

const KiB = 1024
const MiB = 1024 * KiB
const right = { ends: 'right file', only: 'one piece' } as const

// Servers that bring next to nothing

fault(
  'one byte at a time from the middle on, once: the connection is opened anew',
  { ...right, guards: 'E15', requests: 2, stallMs: 10_000 },
  async (scene) => {
    scene.server.fault(path, { ...trickle(20, half(scene)), times: 1 })
    return scene.get({ speedLimit: { bytesPerSecond: KiB, timeMs: 1_000 } })
  },
)
fault(
  'one byte at a time, each time: the call ends by its own limit',
  { guards: 'E15', ends: 'ERR_MODEL_NETWORK', only: 'one piece', stallMs: 10_000 },
  async (scene) => {
    scene.server.fault(path, trickle(20, half(scene)))
    const begun = performance.now()
    const end = await scene.get({ patienceMs: 1_500, retryDelaysMs: [1, 1, 1, 1, 1, 1, 1, 1] })
    assert.ok(performance.now() - begun < 5_000)
    return end
  },
)
fault(
  'a cut each 40 kB: tries that bring so little are counted',
  { guards: 'E15', ends: 'ERR_MODEL_NETWORK', requests: 4, only: 'one piece' },
  { kind: 'cut-each', bytes: 40_000 },
)
fault('a cut each 70 kB, for long', { ...right, guards: 'E15', bytes: 2 * MiB, requests: 30 }, (scene) => {
  scene.server.fault(path, { kind: 'cut-each', bytes: 70_000 })
  return scene.get()
})
// As a virus scanner does that has to see all of it before it lets go of it.
fault(
  'a byte now and then, and then all at once: within the limits that is honest',
  { ...right, guards: 'E15', requests: 1, stallMs: 10_000 },
  async (scene) => {
    scene.server.pause(path, 1_000)
    const download = scene.get({ speedLimit: { bytesPerSecond: KiB, timeMs: 4_000 }, patienceMs: 4_000 })
    await scene.server.reached(path, 1_000)
    setTimeout(() => scene.server.resume(path), 2_000)
    return download
  },
)

// Requests that others count

fault(
  'cuts of a hub that counts what it is asked: it is asked once',
  { ...right, guards: 'D12', bytes: MiB },
  async (scene) => {
    const hub = await Hub.start()
    scene.t.after(() => hub[Symbol.asyncDispose]())
    hub.commit('ann/tiny', { 'model.gguf': scene.file.path })
    hub.cdn.fault(hub.blobPath(scene.file.path), { kind: 'cut-each', bytes: 70_000 })
    scene.url = hub.url('ann/tiny', 'model.gguf')
    const end = await scene.get()
    const asked = hub.server.requests(new URL(scene.url).pathname).length
    assert.equal(asked, 1)
    return end
  },
)

// Known early

fault(
  'a large model that was uploaded in part',
  { guards: 'E18', ends: 'ERR_MODEL_NOT_GGUF', only: 'one piece', bytes: 8 * MiB, servedInMs: 16_000 },
  async (scene) => {
    const whole = scene.file
    const short = scene.payload(32 * MiB)
    truncateSync(short.path, whole.bytes)
    scene.server.serve(path, short.path)
    scene.mends.push(() => scene.serve(scene.payload(256 * KiB)))
    const end = await scene.get()
    assert.ok(scene.server.bytesServed(path) < 2 * MiB, `${scene.server.bytesServed(path)} bytes were served`)
    return end
  },
)
fault(
  'a partial that is deleted while its bytes come slowly: begun again within a second',
  {
    ...right,
    guards: 'E18',
    bytes: 2 * MiB,
    servedInMs: 4_000,
    skip: process.platform === 'win32' && 'on Windows a file that is open keeps its name',
  },
  async (scene) => {
    const download = scene.get()
    await scene.received(256 * KiB)
    unlinkSync(scene.partial)
    const begun = performance.now()
    await until('it is asked for again', () => scene.server.requests(path).length === 2)
    assert.ok(performance.now() - begun < 1_000)
    return download
  },
)

// Our own debris

/** The models folder is on a disk with room for the model, and for half of it. */
async function onSmallDisk(scene: FaultScene): Promise<DiskRoom> {
  const room = await DiskRoom.open({ bytes: scene.file.bytes + half(scene) })
  scene.t.after(() => room[Symbol.asyncDispose]())
  scene.models = join(room.path, 'models')
  return room
}

fault(
  'no room but that of a partial that nobody can go on with',
  { ...right, guards: 'E17', bytes: 2 * MiB, skip: noRoom },
  async (scene) => {
    await onSmallDisk(scene)
    await scene.leaveHalf()
    assert.ok(statSync(scene.partial).size > MiB - 64 * KiB)
    // Another source has the same name.
    const { file } = scene
    scene.url = scene.serve(scene.payload(file.bytes), {}, '/another.gguf')
    return scene.get()
  },
)
fault('a partial that is given back: its room, too', { ...right, guards: 'E17', bytes: 2 * MiB }, async (scene) => {
  await scene.leaveHalf()
  const { blocks = 0 } = statSync(scene.partial)
  assert.ok(blocks * 512 <= half(scene) + 64 * KiB, `${blocks * 512} bytes are taken`)
  return scene.get()
})
fault(
  'a wrong file: only its beginning is kept',
  { guards: 'E17', ends: 'ERR_MODEL_HASH_MISMATCH', bytes: 2 * MiB, requests: 1, only: 'one piece' },
  async (scene) => {
    const end = await scene.get({}, { sha256: 'ab'.repeat(32) })
    const [kept, ...others] = scene.list()
    assert.ok(kept !== undefined && others.length === 0, `in the folder: ${[kept, ...others]}`)
    const { size } = statSync(join(scene.models, kept))
    assert.ok(size > 60 * KiB && size < 72 * KiB, `${size} bytes are kept`)
    return end
  },
)

// What callers are told, and what they give

fault(
  'a shorter version takes its place under way: done is never more than total',
  { ...right, guards: 'E20' },
  async (scene) => {
    scene.server.fault(path, { kind: 'cut', atByte: half(scene), times: 1 })
    const download = scene.get({ retryDelaysMs: [500] })
    await scene.received(half(scene))
    scene.serve(scene.payload(scene.file.bytes / 4))
    return download
  },
)
fault('many downloads by one signal', { ...right, guards: 'E20' }, async (scene) => {
  const warnings: Error[] = []
  const note = (warning: Error) => void warnings.push(warning)
  process.on('warning', note)
  scene.t.after(() => process.off('warning', note))
  const { signal } = new AbortController()
  const { file, url } = scene
  // All of them wait at once.
  const options = { ...scene.options, retryDelaysMs: [500] }
  scene.server.fault(path, { ...status(503), times: 24 })
  const others = Array.from({ length: 24 }, (_, index) =>
    downloadFile({
      ...options,
      source: resolveSource(url),
      destination: join(dirname(scene.models), 'others', `${index}.gguf`),
      signal,
    }),
  )
  assert.ok((await Promise.all(others)).every(({ sha256 }) => sha256 === file.sha256))
  const end = await scene.get({ signal })
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(warnings, [])
  return end
})

// A model in pieces, which are joined

const [one, two] = [`${path}.part1of2`, `${path}.part2of2`] as const
for (const [what, isCut] of [
  ['a model in two pieces', false],
  ['a model in two pieces, of which the second is cut once', true],
] as const) {
  fault(what, { ...right, guards: 'D14', requests: 0 }, async (scene) => {
    const bytes = readFileSync(scene.file.path)
    for (const [at, piece] of [
      [one, bytes.subarray(0, half(scene))],
      [two, bytes.subarray(half(scene))],
    ] as const) {
      const file = `${scene.file.path}-${at.at(-4)}`
      writeFileSync(file, piece)
      scene.server.serve(at, file)
    }
    scene.url += '.part1of2'
    scene.resolve = (source) => {
      const request = resolveRequest(source, scene.models)
      return request.kind === 'files' ? request.files[0] : assert.fail('a URL leads to files')
    }
    if (isCut) scene.server.fault(two, { kind: 'cut', atByte: half(scene) / 2, after: 1, times: 1 })
    return scene.get()
  })
}
