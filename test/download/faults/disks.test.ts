// Rows of the table of faults: disks that are full, and disks that may not be written. See support/faults.ts.
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { LlamaModelGate } from 'os-mutex/llama'
import { DiskRoom, noRoom, type RoomOptions } from '../../support/disk-room.ts'
import { half, underWay } from '../../support/fault-parts.ts'
import { ending, type FaultScene, fault, path, type RowOptions } from '../../support/faults.ts'
import { until } from '../../support/until.ts'

const KiB = 1024
const MiB = 1024 * KiB
const right = { ends: 'right file' } as const

// Full disks

const full = { guards: ['A3', 'E17'], ends: 'ERR_MODEL_DISK_FULL', skip: noRoom } as const

/** The models folder is on a small disk. Unless told, there is room for the model and little more. */
async function enter(scene: FaultScene, options: Partial<RoomOptions> = {}): Promise<DiskRoom> {
  const room = await DiskRoom.open({ bytes: scene.file.bytes + 512 * KiB, ...options })
  scene.t.after(() => room[Symbol.asyncDispose]())
  scene.models = join(room.path, 'models')
  return room
}

/** As where the file system can't take room beforehand: what the partial has behind its end goes back to the disk. */
function loseRoom(scene: FaultScene): void {
  if (scene.partials.length > 0) truncateSync(scene.partial, statSync(scene.partial).size)
}

fault('a disk that is full at the start', { ...full, requests: 1 }, async (scene) => {
  const room = await enter(scene)
  room.fill()
  scene.mends.push(() => room.clear())
  return scene.get()
})
fault('a disk that is too small by a page', { ...full, requests: 1 }, async (scene) => {
  const room = await enter(scene)
  mkdirSync(scene.models)
  writeFileSync(join(room.path, 'others'), Buffer.alloc(516 * KiB))
  scene.mends.push(() => unlinkSync(join(room.path, 'others')))
  return scene.get()
})
const points: [string, (scene: FaultScene) => number][] = [
  ['at its first byte', () => 0],
  ['after 24 bytes', () => 24],
  ['at 10 %', ({ file }) => file.bytes / 10],
  ['at 25 %', ({ file }) => file.bytes / 4],
  ['in the middle', half],
  ['at 75 %', ({ file }) => (file.bytes * 3) / 4],
  ['at 90 %', ({ file }) => (file.bytes * 9) / 10],
  ['at its last page', ({ file }) => file.bytes - 4096],
]
for (const [when, at] of points) {
  fault(
    `a disk that fills up ${when}, without room taken beforehand`,
    { ...full, only: 'one piece' },
    async (scene) => {
      const { server } = scene
      const room = await enter(scene)
      const atByte = Math.floor(at(scene))
      server.pause(path, atByte)
      const download = scene.get()
      await server.requested(path)
      // Of fewer nothing is written yet.
      if (atByte > 24) await scene.received(atByte)
      loseRoom(scene)
      room.fill()
      scene.mends.push(() => room.clear())
      server.resume(path)
      return download
    },
  )
}
fault(
  'a disk that fills up under several connections that have long to wait for their next bytes',
  { ...full, segmentedEnds: full.ends, only: 'segmented', servedInMs: 10_000 },
  async (scene) => {
    const room = await enter(scene)
    const download = scene.get()
    await scene.received(MiB)
    loseRoom(scene)
    room.fill()
    scene.mends.push(() => room.clear())
    return download
  },
)
for (const connections of [1, 4]) {
  fault(
    `what onProgress throws over ${connections} connections that have long to wait`,
    { guards: 'A3', ends: 'aborted', segmentedEnds: 'aborted', only: 'segmented', servedInMs: 10_000 },
    (scene) =>
      scene.get({
        connections,
        onProgress: ({ phase, done }) => {
          if (phase === 'downloading' && done > MiB) throw scene.reason
        },
      }),
  )
}
for (const [when, at] of points.slice(2)) {
  fault(`a disk that fills up ${when}`, { guards: 'A3', ends: 'right file', skip: noRoom }, async (scene) => {
    const room = await enter(scene)
    scene.mends.push(() => room.clear())
    // Free for what else is written: the map, the manifest.
    return underWay(scene, () => room.fill(64 * KiB), Math.floor(at(scene)))
  })
}
for (const phase of ['verifying', 'publishing'] as const) {
  fault(`a disk that is full when it comes to ${phase}`, full, async (scene) => {
    const room = await enter(scene)
    scene.mends.push(() => room.clear())
    let isFull = false
    return scene.get({
      onProgress: (progress) => {
        if (progress.phase === phase && !isFull) room.fill()
        isFull ||= progress.phase === phase
      },
    })
  })
}
for (const inodes of [2, 3, 4]) {
  fault(`a disk that can have ${inodes} files`, full, async (scene) => {
    const room = await enter(scene, { inodes })
    scene.mends.push(() => room.remount('nr_inodes=100'))
    return scene.get()
  })
}
fault('a full disk, twice', { ...full, only: 'one piece' }, async (scene) => {
  const room = await enter(scene)
  for (const at of [0.25, 0.5]) {
    const { server } = scene
    server.pause(path, Math.floor(scene.file.bytes * at))
    const download = scene.get()
    await scene.received(Math.floor(scene.file.bytes * at))
    loseRoom(scene)
    room.fill()
    server.resume(path)
    const end = await download
    if (at === 0.5) {
      scene.mends.push(() => room.clear())
      return end
    }
    assert.equal(scene.judge(end), 'ERR_MODEL_DISK_FULL')
    room.clear()
  }
  return assert.fail()
})
fault('a mirror on a disk that is full', { ...full, guards: 'B7', only: 'one piece' }, async (scene) => {
  const room = await DiskRoom.open({ bytes: 64 * KiB })
  scene.t.after(() => room[Symbol.asyncDispose]())
  const mirrorTo = join(room.path, 'app', 'model.gguf')
  const end = await throughGate(scene, mirrorTo)
  assert.ok(!existsSync(mirrorTo), 'nothing has the name of the mirror')
  await room.remount(`size=${2 * scene.file.bytes}`)
  assert.equal(scene.judge(await throughGate(scene, mirrorTo)), 'right file')
  assert.deepEqual(readFileSync(mirrorTo), readFileSync(scene.file.path))
  return end
})

function throughGate(scene: FaultScene, mirrorTo: string) {
  const mutexDirectory = join(dirname(scene.models), 'locks')
  mkdirSync(mutexDirectory, { recursive: true })
  const gate = new LlamaModelGate({ modelsDirectory: scene.models, mutexDirectory, prefix: 'faults' })
  return ending(gate.ensureModel(scene.url, { mirrorTo }))
}

// Disks that may not be written

const readOnly = { guards: 'D10', ends: 'ERR_MODEL_FILE_SYSTEM', skip: noRoom } as const satisfies RowOptions
fault('a disk that is read-only', { ...readOnly, requests: 1 }, async (scene) => {
  const room = await enter(scene)
  mkdirSync(scene.models)
  await room.remount('ro')
  scene.mends.push(() => room.remount('rw'))
  return scene.get()
})
fault('a disk that is read-only, without a models folder', { ...readOnly, requests: 0 }, async (scene) => {
  const room = await enter(scene)
  await room.remount('ro')
  scene.mends.push(() => room.remount('rw'))
  return scene.get()
})
fault('a disk that is read-only when the rest is to come', readOnly, async (scene) => {
  const room = await enter(scene)
  await scene.leaveHalf()
  const remounted = () =>
    room.remount('ro').then(
      () => true,
      () => false,
    )
  await until('nobody has a file open to write there', remounted)
  scene.mends.push(() => room.remount('rw'))
  return scene.get()
})
fault('a disk that is read-only once the model is there', { ...right, guards: 'D10', skip: noRoom }, async (scene) => {
  const room = await enter(scene)
  await scene.get()
  await room.remount('ro')
  scene.mends.push(() => room.remount('rw'))
  return scene.get()
})
