// Seals: whether the files of a model are what they were, by their manifests where these speak for them.
import assert from 'node:assert/strict'
import {
  copyFileSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { areSame, lookAgain, sealsOf } from '#download/published/seal'
import type { PublishedModel } from '#download/published/verify'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-seal-')))
after(() => rmSync(folder, { recursive: true }))
let files = 0

function tiny(): TinyGguf {
  files++
  return makeTinyGguf({ path: join(folder, `${files}.gguf`), bytes: 256 * 1024, seed: files })
}

/** As ensureModel would answer it. */
function answer({ path, bytes, sha256 }: TinyGguf, known = true): PublishedModel {
  const figures = { publishedAt: 5, cached: true, downloadedBytes: 0, resumedBytes: 0 }
  return { path, bytes, source: 'https://host/x.gguf', ...(known && { sha256 }), ...figures }
}

async function writeManifest(path: string, sha256: string): Promise<void> {
  const [seal] = (await lookAgain([{ path, size: 0, mtimeMs: 0, ino: 0, dev: 0 }])) ?? []
  const manifest = {
    version: 1,
    bytes: seal?.size,
    mtimeMs: seal?.mtimeMs,
    sha256,
    source: '',
    sourceKey: '',
    publishedAt: 5,
  }
  writeFileSync(path.replace(/([^/\\]+)$/, '.$1.os-mutex.json'), JSON.stringify(manifest))
}

/** How many bytes were hashed for the seals. */
async function hashedFor(model: PublishedModel): Promise<{ isSealed: boolean; hashed: number }> {
  let hashed = 0
  const seals = await sealsOf(model, { onBytes: (done) => (hashed = done) })
  return { isSealed: seals !== undefined, hashed }
}

test('a manifest that speaks for the file is believed without a hash, whatever it says', async () => {
  const file = tiny()
  await writeManifest(file.path, file.sha256)
  assert.deepEqual(await hashedFor(answer(file)), { isSealed: true, hashed: 0 })
  await writeManifest(file.path, '0'.repeat(64))
  assert.deepEqual(await hashedFor(answer(file)), { isSealed: false, hashed: 0 })
})

test('without one the file is hashed, unless its size is another', async () => {
  const file = tiny()
  assert.deepEqual(await hashedFor(answer(file)), { isSealed: true, hashed: file.bytes })
  await writeManifest(file.path, file.sha256)
  utimesSync(file.path, 1_000_000_000, 1_000_000_000)
  assert.deepEqual(await hashedFor(answer(file)), { isSealed: true, hashed: file.bytes })
  copyFileSync(tiny().path, file.path)
  assert.deepEqual(await hashedFor(answer(file)), { isSealed: false, hashed: file.bytes })
  writeFileSync(file.path, 'short')
  assert.deepEqual(await hashedFor(answer(file)), { isSealed: false, hashed: 0 })
})

test('a file of unknown hash needs its size and the structure of a GGUF', async () => {
  const file = tiny()
  assert.deepEqual(await hashedFor(answer(file, false)), { isSealed: true, hashed: 0 })
  const content = readFileSync(file.path)
  content.write('HTML')
  writeFileSync(file.path, content)
  assert.deepEqual(await hashedFor(answer(file, false)), { isSealed: false, hashed: 0 })
  rmSync(file.path)
  assert.deepEqual(await hashedFor(answer(file, false)), { isSealed: false, hashed: 0 })
})

test('all parts are sealed, and a part that is another file breaks the seal', async () => {
  const parts = [tiny(), tiny(), tiny()]
  const model = {
    ...answer(parts[0] as TinyGguf),
    parts: parts.map((part) => ({ ...answer(part), sha256: part.sha256 })),
  }
  const seals = await sealsOf(model)
  assert.equal(seals?.length, 3)
  assert.ok(seals && areSame(seals, await lookAgain(seals)))
  const draft = join(folder, 'draft')
  copyFileSync(parts[2]?.path ?? '', draft)
  renameSync(draft, parts[2]?.path ?? '')
  assert.equal(areSame(seals, await lookAgain(seals)), false)
  rmSync(parts[1]?.path ?? '')
  assert.equal(areSame(seals, await lookAgain(seals)), false)
})
