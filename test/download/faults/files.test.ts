// Rows of the table of faults: what is in the way, and what happens to files under way and afterwards. See support/faults.ts.
import assert from 'node:assert/strict'
import {
  appendFileSync,
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
import { join } from 'node:path'
import { verifyPublished } from '../../support/download-internals.ts'
import { underWay } from '../../support/fault-parts.ts'
import { type FaultScene, fault, type RowOptions } from '../../support/faults.ts'

const MiB = 1024 * 1024
const right = { ends: 'right file' } as const
const broken = { ends: 'ERR_MODEL_FILE_SYSTEM' } as const

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
fault('a login page that another tool has saved as the model', { ...right, guards: 'B5' }, async (scene) => {
  mkdirSync(scene.models)
  writeFileSync(scene.destination, '<!doctype html><title>Sign in</title>')
  const end = await scene.get()
  assert.equal('error' in end && (end.error as { code?: unknown }).code, 'ERR_MODEL_NAME_TAKEN')
  return scene.get({ replace: true })
})
fault(
  'a file of the right size with zeros inside that another tool has saved, and the hash is known',
  { ...right, guards: 'B5' },
  async (scene) => {
    mkdirSync(scene.models)
    const bytes = readFileSync(scene.file.path).fill(0, scene.file.bytes / 4, scene.file.bytes / 2)
    writeFileSync(scene.destination, bytes)
    scene.source = { sha256: scene.file.sha256 }
    const end = await scene.get()
    assert.equal('error' in end && (end.error as { code?: unknown }).code, 'ERR_MODEL_NAME_TAKEN')
    return scene.get({ replace: true })
  },
)

function noLinks(): string | false {
  return process.platform === 'win32' && 'on Windows not everybody may make links'
}

// What happens to the partial under way

const unlinks = {
  skip: process.platform === 'win32' && 'on Windows a file that is open keeps its name, also when it is deleted',
} as const

// It is noticed at once, and begun again, once.
fault('the partial is deleted under way', { ...right, guards: 'E18', ...unlinks }, (scene) =>
  underWay(scene, () => unlinkSync(scene.partial)),
)
/** With the hash known or not: what is hashed while it comes may be changed after that. */
const meddled = (name: string, meddle: (scene: FaultScene) => void, more: Partial<RowOptions> = {}) => {
  for (const isKnown of [false, true]) {
    const ends = ['ERR_MODEL_FILE_SYSTEM', 'ERR_MODEL_NOT_GGUF', 'ERR_MODEL_HASH_MISMATCH', 'right file'] as const
    fault(
      `the partial is ${name} under way${isKnown ? ', and the hash is known' : ''}`,
      { guards: 'A1', ends, ...more },
      (scene) => {
        if (isKnown) scene.source = { sha256: scene.file.sha256 }
        return underWay(scene, () => meddle(scene))
      },
    )
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
fault('the record is deleted under way', { ...right, guards: 'A1' }, (scene) =>
  underWay(scene, () => unlinkSync(`${scene.partial}-record`)),
)
fault('the models folder is deleted under way', { ...broken, guards: 'E18', ...unlinks }, (scene) =>
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
  'the manifest is deleted, and the hash is known',
  right,
  afterwards((scene) => {
    scene.source = { sha256: scene.file.sha256 }
    unlinkSync(join(scene.models, '.model.gguf.os-mutex.json'))
  }),
)
fault('the manifest is a folder', broken, async (scene) => {
  const manifest = join(scene.models, '.model.gguf.os-mutex.json')
  mkdirSync(manifest, { recursive: true })
  scene.mends.push(() => rmdirSync(manifest))
  return scene.get()
})
