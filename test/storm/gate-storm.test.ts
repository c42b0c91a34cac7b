// The gate storm in its short form (`npm run test:gate-storm` is the long one), and what judges it.
import assert from 'node:assert/strict'
import { createHash, randomInt } from 'node:crypto'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { GateFolder } from '../support/gate-folder.ts'
import { whyHostAlone } from './gate-crowd.ts'
import { costOf, lossOf } from './gate-ledger.ts'
import { gateCommand, runGateStorm, shortGateStorm } from './gate-storm.ts'
import { Observer, type Sight, type Subject } from './observer.ts'

const canReplaceOpenFiles =
  process.platform === 'win32'
    ? { skip: 'its observer has published files open all the time, and Windows lets nobody replace one meanwhile' }
    : {}

test('in a storm of kills, cuts and new versions only right files are ever seen, and all is had in the end', {
  ...canReplaceOpenFiles,
}, async (t) => {
  const options = { ...shortGateStorm, seed: randomInt(1_000_000) }
  t.diagnostic(gateCommand(options))
  if (whyHostAlone !== undefined) t.diagnostic(`all processes run on the host: ${whyHostAlone}`)
  const report = await runGateStorm(options)
  assert.deepEqual(report.violations, [])
  assert.ok(report.kills >= options.kills)
  assert.ok(report.looks > 0)
})

/** An observer with what it has told so far; `seen` resolves when that is so much. */
function observe(subjects: readonly Subject[]) {
  const sights: Sight[] = []
  let hear = () => {}
  const observer = new Observer(subjects, (sight) => {
    sights.push(sight)
    hear()
  })
  const seen = (count: number) =>
    new Promise<void>((resolve) => {
      hear = () => sights.length >= count && resolve()
      hear()
    })
  return { observer, sights, seen }
}

test('the observer sees each content that a path has, and nothing of a path that has none', {
  ...canReplaceOpenFiles,
}, async () => {
  await using folder = await GateFolder.create()
  const [path, none] = [join(folder.models, 'one'), join(folder.models, 'none')]
  await writeFile(path, 'right')
  const { observer, sights, seen } = observe([path, none].map((file) => ({ path: file, parts: 1 })))
  await seen(1)
  await writeFile(join(folder.models, 'other'), 'wrong!')
  await rename(join(folder.models, 'other'), path)
  await seen(2)
  assert.ok((await observer.stop()) >= 2)
  assert.deepEqual(
    sights.map((sight) => [sight.path, sight.bytes]),
    [
      [path, 5],
      [path, 6],
    ],
  )
})

test('the observer reads a split model where its note leads, and comes back when the note leads elsewhere', {
  ...canReplaceOpenFiles,
}, async () => {
  await using folder = await GateFolder.create()
  const first = join(folder.models, 'm-1')
  const { observer, sights, seen } = observe([{ path: first, parts: 2 }])
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
  const publish = async (texts: readonly string[], within?: string) => {
    const parts = texts.map((text, index) => ({ name: `m-${index + 1}`, sha256: sha256(text) }))
    for (const [index, text] of texts.entries())
      await writeFile(join(folder.models, within ?? '', `m-${index + 1}`), text)
    const note = join(folder.path, 'note')
    await writeFile(note, JSON.stringify({ parts, ...(within !== undefined && { folder: within }) }))
    await rename(note, join(folder.models, '.m-1.os-mutex-group.json'))
  }
  await publish(['a', 'b'])
  await seen(1)
  await mkdir(join(folder.models, 'later'))
  await publish(['c', 'd'], 'later')
  await seen(2)
  await writeFile(join(folder.models, 'm-2'), 'd')
  await seen(3)
  await rm(first)
  await seen(4)
  // Somebody was promised others.
  const parts = ['c', 'e'].map((text, index) => ({
    path: join(folder.models, 'later', `m-${index + 1}`),
    sha256: sha256(text),
  }))
  observer.learn({ path: first, parts })
  await seen(6)
  await observer.stop()
  const texts = new Map(['a', 'b', 'c', 'd', 'e'].map((text) => [sha256(text), text]))
  const named = (hashes: readonly (string | undefined)[] = []) =>
    hashes.map((hash) => texts.get(hash ?? '') ?? '-').join('')
  assert.deepEqual(
    sights.slice(0, 6).map(({ at, parts, expected }) => [basename(dirname(at)), named(parts), named(expected)]),
    [
      ['models', 'ab', 'ab'],
      ['later', 'cd', 'cd'],
      ['models', 'ad', 'ab'],
      ['models', '-d', 'ab'],
      ['later', 'ce', 'cd'],
      ['later', 'cd', 'ce'],
    ],
  )
})

test('the bound of what is served: each version once, and what disruptions have cost', () => {
  const MiB = 1024 * 1024
  const file = { bytes: MiB, connections: 1, isPart: false }
  assert.equal(costOf(file, { versions: 2, lost: 0 }), 2 * MiB)
  assert.equal(costOf(file, { versions: 2, lost: 6 * lossOf(file) }), 8 * MiB)
  // A part that is the same in all versions is fetched once, and a disruption of others' fetches costs nothing of it.
  const part = { ...file, isPart: true }
  assert.equal(costOf(part, { versions: 1, lost: lossOf(part, 0) }), MiB)
  assert.equal(costOf(part, { versions: 3, lost: lossOf(part, 7) }), 5 * MiB + 7)
  const large = { bytes: 1024 * MiB, connections: 1, isPart: false }
  assert.ok(lossOf(large) < large.bytes)
  assert.ok(lossOf({ ...large, connections: 4 }) > 4 * lossOf(large))
})
