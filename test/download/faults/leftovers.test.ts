// Rows of the table of faults: what is left of an earlier download. See support/faults.ts.
import { appendFileSync, readFileSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs'
import { editRecord, partialsIn } from '../../support/download-folder.ts'
import { type FaultScene, fault } from '../../support/faults.ts'

const MiB = 1024 * 1024
const right = { guards: 'A1', ends: 'right file' } as const

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
const record = (text: string | Buffer) => resumed(({ partial }) => writeFileSync(`${partial}-record`, text))
// What cannot be read may be somebody's, by a later version of this package: it stays.
const kept = { ...right, guards: 'B6', strays: /^model\.gguf\.[0-9a-f]{8}\.os-mutex-partial(-record)?$/ } as const
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
  resumed(({ models }) => {
    const [partial] = partialsIn(models)
    if (partial) editRecord(partial, changes)
  })
fault('a record of another ETag', right, edited({ etag: '"another"' }))
fault('a record of a smaller size', right, edited({ bytes: 1_000 }))
fault('a record of a negative size', right, edited({ bytes: -1 }))
fault('a record of an enormous size', right, edited({ bytes: 1e300 }))
fault('a record of another hash', right, edited({ sha256: 'ab'.repeat(32) }))
fault('a record of an earlier boot', right, edited({ bootId: 'an-earlier-boot' }))

/** Where the map begins in the record. */
const mapAt = 4096
const map = (change: (record: string) => void) => resumed(({ partial }) => change(`${partial}-record`))
const segmented = { ...right, guards: 'A3', only: 'segmented' } as const
fault(
  'a map of garbage',
  segmented,
  map((record) => writeFileSync(record, readFileSync(record).fill(7, mapAt))),
)
fault(
  'a map that was emptied',
  segmented,
  map((record) => truncateSync(record, mapAt)),
)
fault(
  'a map that was cut',
  segmented,
  map((record) => truncateSync(record, mapAt + 1_500)),
)
fault(
  'a map with one changed byte in each copy',
  segmented,
  map((record) => {
    const bytes = readFileSync(record)
    for (const index of [mapAt + 34, mapAt + 1058]) bytes[index] = (bytes[index] ?? 0) ^ 1
    writeFileSync(record, bytes)
  }),
)
fault(
  'a map for a partial that was cut',
  segmented,
  resumed(({ partial }) => truncateSync(partial, 5 * MiB)),
)
