// Rows of the table of faults: what happens to files and disks. See support/faults.ts.
import assert from 'node:assert/strict'
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { LlamaModelGate } from 'os-mutex/llama'
import { DiskRoom, noRoom, type RoomOptions } from '../../support/disk-room.ts'
import { verifyPublished } from '../../support/download-internals.ts'
import { ending, type FaultScene, fault, path, type RowOptions } from '../../support/faults.ts'
import { until } from '../../support/until.ts'

const KiB = 1024
const MiB = 1024 * KiB
const half = ({ file }: FaultScene) => Math.floor(file.bytes / 2)
const right = { ends: 'right file' } as const
const broken = { ends: 'ERR_MODEL_FILE_SYSTEM' } as const

/** Does something to a download of which just `atByte` bytes have come, and lets it go on. */
async function underWay(scene: FaultScene, what: () => void, atByte = half(scene)) {
  const { server } = scene
  server.pause(path, atByte)
  const download = scene.get()
  await scene.received(atByte)
  what()
  server.resume(path)
  return download
}

// What is in the way

fault('the destination is a folder', { ...broken, requests: 0 }, async (scene) => {
  mkdirSync(scene.destination, { recursive: true })
  scene.mends.push(() => rmdirSync(scene.destination))
  return scene.get()
})
fault('the destination becomes a folder under way', broken, (scene) => {
  scene.mends.push(() => rmdirSync(scene.destination))
  return underWay(scene, () => mkdirSync(scene.destination))
})
fault('the models folder is a file', { ...broken, requests: 0 }, async (scene) => {
  writeFileSync(scene.models, 'not a folder')
  scene.mends.push(() => unlinkSync(scene.models))
  return scene.get()
})
fault('the destination is a link to nothing', { ...right, skip: noLinks() }, async (scene) => {
  mkdirSync(scene.models)
  symlinkSync('nowhere', scene.destination)
  return scene.get()
})
fault('a login page that another tool has saved as the model', right, async (scene) => {
  mkdirSync(scene.models)
  writeFileSync(scene.destination, '<!doctype html><title>Sign in</title>')
  return scene.get()
})
fault('a file of the right size with zeros inside that another tool has saved', right, async (scene) => {
  mkdirSync(scene.models)
  const bytes = readFileSync(scene.file.path).fill(0, scene.file.bytes / 4, scene.file.bytes / 2)
  writeFileSync(scene.destination, bytes)
  return scene.get()
})

function noLinks(): string | false {
  return process.platform === 'win32' && 'on Windows not everybody may make links'
}

// What is left of an earlier download

const resumed = (change: (scene: FaultScene) => void) => async (scene: FaultScene) => {
  await scene.leaveHalf()
  change(scene)
  return scene.get()
}
fault(
  'a partial that is longer than the model',
  right,
  resumed(({ partial, file }) => truncateSync(partial, file.bytes + 1)),
)
fault(
  'a partial with a tail of garbage',
  right,
  resumed(({ partial, file }) => appendFileSync(partial, Buffer.alloc(file.bytes, 7))),
)
fault(
  'a partial that was cut to 10 bytes',
  right,
  resumed(({ partial }) => truncateSync(partial, 10)),
)
fault(
  'a partial that was emptied',
  right,
  resumed(({ partial }) => truncateSync(partial, 0)),
)
fault(
  'a partial that is gone, but for its record',
  right,
  resumed(({ partial }) => unlinkSync(partial)),
)
fault(
  'a partial that begins with something else',
  right,
  resumed(({ partial }) => writeFileSync(partial, Buffer.alloc(100_000, 7))),
)
fault('a partial with zeros at its end, and the hash is known', right, async (scene) => {
  scene.source = { sha256: scene.file.sha256 }
  await scene.leaveHalf()
  const { partial } = scene
  const { size } = statSync(partial)
  truncateSync(partial, size - 50_000)
  truncateSync(partial, size)
  return scene.get()
})
const record = (text: string | Buffer) => resumed(({ partial }) => writeFileSync(`${partial}.json`, text))
// What cannot be read may be somebody's, by a later version of this package: it stays.
const kept = { ...right, strays: /^model\.gguf\.[0-9a-f]{8}\.partial(\.json|\.map)?$/ }
fault('a record that was emptied', kept, record(''))
fault('a record that was torn', kept, record('{"version":1,"source":"http'))
fault(
  'a record of random bytes',
  kept,
  record(Buffer.from(Array.from({ length: 5_000 }, (_, index) => (index * 7) % 256))),
)
fault('a record of a later version', kept, record('{"version":2}'))
fault('a record of 10 MiB', kept, record(' '.repeat(10 * MiB)))
const edited = (changes: Record<string, unknown>) =>
  resumed(({ partial }) => {
    const before = JSON.parse(readFileSync(`${partial}.json`, 'utf8')) as object
    writeFileSync(`${partial}.json`, JSON.stringify({ ...before, ...changes }))
  })
fault('a record of another ETag', right, edited({ etag: '"another"' }))
fault('a record of a smaller size', right, edited({ bytes: 1_000 }))
fault('a record of a negative size', right, edited({ bytes: -1 }))
fault('a record of an enormous size', right, edited({ bytes: 1e300 }))
fault('a record of another hash', right, edited({ sha256: 'ab'.repeat(32) }))
fault('a record of an earlier boot', right, edited({ bootId: 'an-earlier-boot' }))
fault('a record of one connection, for a partial of several', right, edited({ inSegments: undefined }))
fault(
  'a record of several connections, for a partial of one',
  { ...right, only: 'one piece' },
  edited({ inSegments: true }),
)

const map = (change: (map: string) => void) => resumed(({ partial }) => change(`${partial}.map`))
const segmented = { ...right, only: 'segmented' } as const
fault(
  'a map of garbage',
  segmented,
  map((at) => writeFileSync(at, Buffer.alloc(2048, 7))),
)
fault(
  'a map that was emptied',
  segmented,
  map((at) => truncateSync(at, 0)),
)
fault(
  'a map that was cut',
  segmented,
  map((at) => truncateSync(at, 1_500)),
)
fault(
  'a map that is gone',
  segmented,
  map((at) => unlinkSync(at)),
)
fault(
  'a map with one changed byte in each copy',
  segmented,
  map((at) => {
    const bytes = readFileSync(at)
    for (const index of [34, 1058]) if (index < bytes.length) bytes[index] = (bytes[index] ?? 0) ^ 1
    writeFileSync(at, bytes)
  }),
)
fault(
  'a map for a partial that was cut',
  segmented,
  resumed(({ partial }) => truncateSync(partial, 5 * MiB)),
)

// What happens to the partial under way

const unlinks = {
  skip: process.platform === 'win32' && 'on Windows a file that is open keeps its name, also when it is deleted',
} as const

fault('the partial is deleted under way', { ...broken, ...unlinks }, (scene) =>
  underWay(scene, () => unlinkSync(scene.partial)),
)
/** With the hash known or not: what is hashed while it comes may be changed after that. */
const meddled = (name: string, meddle: (scene: FaultScene) => void, more: Partial<RowOptions> = {}) => {
  for (const isKnown of [false, true]) {
    const ends = ['ERR_MODEL_FILE_SYSTEM', 'ERR_MODEL_NOT_GGUF', 'ERR_MODEL_HASH_MISMATCH', 'right file'] as const
    fault(`the partial is ${name} under way${isKnown ? ', and the hash is known' : ''}`, { ends, ...more }, (scene) => {
      if (isKnown) scene.source = { sha256: scene.file.sha256 }
      return underWay(scene, () => meddle(scene))
    })
  }
}
meddled('cut to nothing', ({ partial }) => truncateSync(partial, 0))
meddled('cut to a third', ({ partial }) => truncateSync(partial, Math.floor(statSync(partial).size / 3)))
meddled('lengthened', ({ partial, file }) => appendFileSync(partial, Buffer.alloc(file.bytes, 7)))
const replaced = (by: (scene: FaultScene) => Buffer) => (scene: FaultScene) => {
  const { partial } = scene
  const bytes = by(scene)
  unlinkSync(partial)
  writeFileSync(partial, bytes)
}
meddled(
  'replaced by text',
  replaced(() => Buffer.from('another file')),
  unlinks,
)
meddled(
  'replaced by another model',
  replaced((scene) => readFileSync(scene.payload().path)),
  unlinks,
)
fault('the record is deleted under way', right, (scene) => underWay(scene, () => unlinkSync(`${scene.partial}.json`)))
fault('the map is deleted under way', { ...segmented, ...unlinks }, (scene) =>
  underWay(scene, () => unlinkSync(`${scene.partial}.map`)),
)
fault('the models folder is deleted under way', { ...broken, ...unlinks }, (scene) =>
  underWay(scene, () => rmSync(scene.models, { recursive: true })),
)
fault('the old version of the model is deleted while the new one comes', right, async (scene) => {
  await scene.get()
  scene.serve(scene.payload())
  scene.source = { sha256: scene.file.sha256 }
  return underWay(scene, () => unlinkSync(scene.destination))
})

// What happens to the published model

const afterwards = (change: (scene: FaultScene) => unknown) => async (scene: FaultScene) => {
  await scene.get()
  await change(scene)
  return scene.get()
}
fault(
  'the model is cut to 1 MiB of 8',
  { ...right, bytes: 8 * MiB },
  afterwards(async ({ destination }) => {
    truncateSync(destination, MiB)
    assert.equal((await verifyPublished(destination)).verdict, 'damaged')
  }),
)
fault(
  'the model is cut, and has its old time',
  right,
  afterwards(({ destination }) => {
    const { mtime } = statSync(destination)
    truncateSync(destination, 1_000)
    utimesSync(destination, mtime, mtime)
  }),
)
fault(
  'the model is deleted',
  right,
  afterwards(({ destination }) => unlinkSync(destination)),
)
fault(
  'the model is replaced by another file',
  right,
  afterwards(({ destination }) => writeFileSync(destination, 'another file')),
)
fault(
  'the manifest is garbled',
  right,
  afterwards(({ models }) => writeFileSync(join(models, '.model.gguf.os-mutex.json'), '{"version":1,')),
)
fault(
  'the manifest is deleted',
  right,
  afterwards(({ models }) => unlinkSync(join(models, '.model.gguf.os-mutex.json'))),
)
fault('the manifest is a folder', broken, async (scene) => {
  const manifest = join(scene.models, '.model.gguf.os-mutex.json')
  mkdirSync(manifest, { recursive: true })
  scene.mends.push(() => rmdirSync(manifest))
  return scene.get()
})

// Full disks

const full = { ends: 'ERR_MODEL_DISK_FULL', skip: noRoom } as const

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
    { ends: 'aborted', segmentedEnds: 'aborted', only: 'segmented', servedInMs: 10_000 },
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
  fault(`a disk that fills up ${when}`, { ends: 'right file', skip: noRoom }, async (scene) => {
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
fault('a mirror on a disk that is full', { ...full, only: 'one piece' }, async (scene) => {
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

const readOnly = { ends: 'ERR_MODEL_FILE_SYSTEM', skip: noRoom } as const satisfies RowOptions
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
fault('a disk that is read-only once the model is there', { ...right, skip: noRoom }, async (scene) => {
  const room = await enter(scene)
  await scene.get()
  await room.remount('ro')
  scene.mends.push(() => room.remount('rw'))
  return scene.get()
})
