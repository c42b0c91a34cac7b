// What is on users' disks can't be changed any more: names, the record of a partial, manifests and the notes of groups and
// tags, as this version has written them. A change of a format has to take another suffix, and not to change this file.
import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { openDownloadFolder, sha256Of } from '../support/download-folder.ts'
import {
  decodeRecord,
  downloadFile,
  Extents,
  encodeRecord,
  findPublished,
  ownNameOf,
  partialPaths,
  pruneFolder,
  readGroup,
  readManifest,
  resolveSource,
} from '../support/download-internals.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'

/** A record's head and one copy of its map, as far as they are not zeros, in hexadecimal. */
const stored = {
  head:
    '6f732d6d75746578207061727469616c0a7b2276657273696f6e223a312c226b696e64223a22646f776e6c6f6164222c22736f75726365223a22' +
    '68747470733a2f2f6578616d706c652e636f6d2f6d2e67677566222c22736f757263654b6579223a226b222c22627974657322' +
    '3a313030302c2265746167223a225c22655c22222c22626f6f744964223a2262227d0a',
  map:
    'c063baade289e2de07000000000000000200000000000000' +
    '00000000000000006400000000000000' +
    'c800000000000000e803000000000000',
  mapOffset: 4096 + 1024,
  bytes: 6144,
}

function storedRecord(): Buffer {
  const file = Buffer.alloc(stored.bytes)
  Buffer.from(stored.head, 'hex').copy(file)
  Buffer.from(stored.map, 'hex').copy(file, stored.mapOffset)
  return file
}

const manifest = {
  version: 1,
  bytes: 100,
  mtimeMs: 1_700_000_000_000,
  sha256: 'ab'.repeat(32),
  source: 'https://example.com/m.gguf',
  sourceKey: 'k',
  publishedAt: 1_700_000_000_001,
}

test('the names of all files are these', () => {
  assert.deepEqual(partialPaths('/m/a.gguf', '0123abcd'), {
    data: '/m/a.gguf.0123abcd.os-mutex-partial',
    record: '/m/a.gguf.0123abcd.os-mutex-partial-record',
    lock: '/m/a.gguf.0123abcd.os-mutex-partial-lock',
  })
  const [destination, id] = ['a.gguf', '0123abcd']
  assert.deepEqual(ownNameOf('a.gguf.0123abcd.os-mutex-partial'), { kind: 'partial', destination, id })
  assert.deepEqual(ownNameOf('a.gguf.0123abcd.os-mutex-partial-record'), { kind: 'record', destination, id })
  assert.deepEqual(ownNameOf('a.gguf.0123abcd.os-mutex-partial-lock'), { kind: 'lock', destination, id })
  assert.deepEqual(ownNameOf('a.gguf.0123abcd.os-mutex-rejected'), { kind: 'rejected', destination, id })
  assert.deepEqual(ownNameOf('.a.gguf.os-mutex.json.0123abcd'), { kind: 'draft', id })
  assert.deepEqual(ownNameOf('.a.os-mutex-group.json.0123abcd'), { kind: 'draft', id })
  assert.deepEqual(ownNameOf('.a.os-mutex-hub.json.0123abcd'), { kind: 'draft', id })
  for (const name of ['a.gguf', '.a.gguf.os-mutex.json', 'a.20240115.partial', 'a.0123abcd.os-mutex-partial-map']) {
    assert.equal(ownNameOf(name), undefined, name)
  }
})

test('a stored record is read, and written the same to the last byte of what it says', () => {
  const file = storedRecord()
  const found = decodeRecord(file)
  assert.deepEqual(found?.extents.ranges, [
    { start: 0, end: 100 },
    { start: 200, end: 1000 },
  ])
  assert.equal(found?.sequence, 7)
  const { record } = found
  assert.deepEqual(record, {
    version: 1,
    kind: 'download',
    source: 'https://example.com/m.gguf',
    sourceKey: 'k',
    bytes: 1000,
    etag: '"e"',
    bootId: 'b',
  })
  const written = encodeRecord(record, new Extents())
  assert.equal(written.length, stored.bytes)
  assert.deepEqual(written.subarray(0, stored.mapOffset - 1024), file.subarray(0, stored.mapOffset - 1024))
})

test('a later version of a record may know more; one that lacks what is known is none', () => {
  const record = { version: 9, kind: 'download', source: 's', sourceKey: 'k', bootId: 'b', more: { than: 'this' } }
  const text = (value: unknown) => {
    const file = Buffer.alloc(stored.bytes)
    file.write(`os-mutex partial\n${JSON.stringify(value)}\n`)
    return file
  }
  assert.equal(decodeRecord(text(record))?.record.version, 9)
  for (const name of ['version', 'kind', 'source', 'sourceKey', 'bootId']) {
    assert.equal(decodeRecord(text({ ...record, [name]: undefined })), undefined, name)
  }
})

test('a manifest of this and of a later version is read', async (t) => {
  const { models } = await openDownloadFolder(t)
  mkdirSync(models)
  const file = join(models, 'm.gguf')
  for (const version of [1, 2, 99]) {
    writeFileSync(join(models, '.m.gguf.os-mutex.json'), JSON.stringify({ ...manifest, version, more: [1] }))
    assert.equal((await readManifest(file))?.sha256, manifest.sha256)
  }
  for (const name of Object.keys(manifest)) {
    writeFileSync(join(models, '.m.gguf.os-mutex.json'), JSON.stringify({ ...manifest, [name]: undefined }))
    assert.equal(await readManifest(file), undefined, name)
  }
})

test('a file that a later version has published is answered, and never replaced', async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const [before, after] = [payload(MiB), payload(MiB)]
  const source = resolveSource(server.serve(path, before.path))
  await downloadFile({ source, destination })
  const manifestFile = join(models, '.model.gguf.os-mutex.json')
  const text = readFileSync(manifestFile, 'utf8').replace('"version":1', '"version":2,"news":"of the future"')
  writeFileSync(manifestFile, text)
  assert.equal((await findPublished(destination, source))?.sha256, before.sha256)
  server.serve(path, after.path)
  await assert.rejects(downloadFile({ source, destination, fetch: 'always' }), {
    code: 'ERR_MODEL_NAME_TAKEN',
    message: /later version of os-mutex/,
  })
  assert.equal(sha256Of(destination), before.sha256)
  assert.equal(readFileSync(manifestFile, 'utf8'), text)
  assert.ok(list().includes('model.gguf'))
})

test('the note of a group is read, and one that leads out of the folder is none', async (t) => {
  const { models } = await openDownloadFolder(t)
  mkdirSync(models)
  const first = join(models, 'm-00001-of-00002.gguf')
  const part = (name: string) => ({ name, bytes: 1, sha256: 'ab'.repeat(32) })
  const note = {
    version: 1,
    id: 'cd'.repeat(32),
    parts: [part('m-00001-of-00002.gguf'), part('m-00002-of-00002.gguf')],
  }
  const write = (value: unknown) =>
    writeFileSync(join(models, '.m-00001-of-00002.gguf.os-mutex-group.json'), JSON.stringify(value))
  for (const right of [note, { ...note, folder: 'm.0123abcd' }, { ...note, version: 5, isPending: true, more: 1 }]) {
    write(right)
    assert.deepEqual(await readGroup(first), right)
  }
  for (const wrong of [
    { ...note, folder: '../elsewhere.0123abcd' },
    { ...note, folder: 'other.0123abcd' },
    { ...note, parts: [part('../m-00001-of-00002.gguf')] },
    { ...note, id: undefined },
  ]) {
    write(wrong)
    assert.equal(await readGroup(first), undefined)
  }
})

test('prune judges only what it knows', async (t) => {
  const { models } = await openDownloadFolder(t)
  mkdirSync(models)
  const kept = [
    'a.gguf.0123abcd.os-mutex-partial', // no record
    'b.gguf.0123abcd.os-mutex-partial-record', // none of ours
    'c.gguf.0123abcd.os-mutex-rejected', // nor this
    'd.gguf.0123abcd.os-mutex-partial2-record', // of a format to come
    '.e.gguf.os-mutex.json.0123abcd', // not by us
    'llama.20240115.partial',
  ]
  for (const name of kept) writeFileSync(join(models, name), 'of somebody')
  const ours = partialPaths(join(models, 'm.gguf'), '89abcdef')
  writeFileSync(ours.data, 'bytes')
  writeFileSync(ours.record, storedRecord())
  const pruned = await pruneFolder(models, 0)
  assert.deepEqual(pruned.map((file) => file.path).sort(), [ours.data, ours.record].sort())
  assert.deepEqual(readdirSync(models).sort(), kept.sort())
})

test('an empty record, of whoever was killed before he wrote it, goes with the next download', async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const source = resolveSource(server.serve(path, payload(MiB).path))
  mkdirSync(models)
  writeFileSync(partialPaths(destination, '0123abcd').record, '')
  await downloadFile({ source, destination })
  assert.deepEqual(list(), ['.model.gguf.os-mutex.json', 'model.gguf'])
})
