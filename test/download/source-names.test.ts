// Names: of split models, of files that were cut by bytes, and of those that would be too long.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type ModelSource, resolveRequest, resolveSource } from '../support/download-internals.ts'
import { runs } from '../support/properties.ts'

const none = { HF_TOKEN: 'none' }

function filesOf(source: ModelSource) {
  const request = resolveRequest(source, '/models', none)
  assert.equal(request.kind, 'files')
  return request.kind === 'files' ? request.files : []
}

test('any part of a split model stands for all, and all have one suffix', () => {
  for (const part of ['00001', '00002', '00003']) {
    const files = filesOf(`https://x.test/a/big-${part}-of-00003.gguf?token=t`)
    const numbers = ['00001', '00002', '00003']
    assert.deepEqual(
      files.map(({ url }) => url),
      numbers.map((number) => `https://x.test/a/big-${number}-of-00003.gguf?token=t`),
    )
    const suffix = files[0]?.key.slice(0, 8)
    assert.deepEqual(
      files.map(({ distinctName }) => distinctName),
      numbers.map((number) => `big.${suffix}-${number}-of-00003.gguf`),
    )
    assert.equal(new Set(files.map(({ key }) => key)).size, 3)
  }
  const onHub = filesOf('hf:ann/repo/q8/big-00002-of-00002.gguf#v1')
  assert.deepEqual(
    onHub.map(({ fileName, url }) => [fileName, url]),
    ['00001', '00002'].map((number) => [
      `hf_ann_repo_v1_q8_big-${number}-of-00002.gguf`,
      `https://huggingface.co/ann/repo/resolve/v1/q8/big-${number}-of-00002.gguf`,
    ]),
  )
  const named = filesOf({ url: 'https://x.test/big-00002-of-00002.gguf', fileName: 'mine.gguf' })
  assert.deepEqual(
    named.map(({ fileName, isNamed }) => [fileName, isNamed]),
    [
      ['mine-00001-of-00002.gguf', true],
      ['mine-00002-of-00002.gguf', true],
    ],
  )
})

test('a name that only looks split is one file, and a count beyond reason is refused', () => {
  for (const name of ['m-00000-of-00002.gguf', 'm-00003-of-00002.gguf', 'm-00001-of-00001.gguf', 'm-1-of-2.gguf']) {
    assert.equal(filesOf(`https://x.test/${name}`).length, 1, name)
  }
  for (const name of ['m-00001-of-01001.gguf', 'm.gguf.part1of1001']) {
    const error = { code: 'ERR_MODEL_INVALID_SOURCE', message: /would have 1001 parts; 1000 is the limit/ }
    assert.throws(() => filesOf(`https://x.test/${name}`), error)
  }
  const error = { code: 'ERR_MODEL_INVALID_SOURCE', message: /is one of 2 parts/ }
  assert.throws(() => filesOf({ url: 'https://x.test/m-00001-of-00002.gguf', bytes: 7 }), error)
  assert.throws(() => resolveRequest({ url: '/m/m-00001-of-00002.gguf', bytes: 7 }, '/models', none), error)
})

test('a file that was cut by bytes is one file in pieces, whichever piece is named, as node-llama-cpp joins it', () => {
  for (const piece of ['1', '2']) {
    const [file, ...more] = filesOf({ url: `https://x.test/a.gguf/big%20Q8.gguf.part${piece}of2?x=1`, bytes: 9 })
    assert.deepEqual(more, [])
    assert.ok(file)
    assert.equal(file.fileName, 'big Q8.gguf')
    assert.equal(file.distinctName, `big Q8.${file.key.slice(0, 8)}.gguf`)
    assert.equal(file.bytes, 9)
    assert.deepEqual(
      file.pieces?.map(({ url, bytes }) => [url, bytes]),
      ['1', '2'].map((number) => [`https://x.test/a.gguf/big%20Q8.gguf.part${number}of2?x=1`, undefined]),
    )
    assert.equal(file.url, file.pieces?.[0].url)
    // Not to be taken for the first piece alone.
    assert.notEqual(file.key, file.pieces?.[0].key)
  }
  const padded = filesOf('hf:ann/big-GGUF/big.Q8_0.gguf.part07of12')
  assert.equal(padded[0]?.fileName, 'hf_ann_big.Q8_0.gguf')
  assert.equal(padded[0]?.pieces?.length, 12)
  assert.match(padded[0]?.pieces?.[0].url ?? '', /\/ann\/big-GGUF\/resolve\/main\/big\.Q8_0\.gguf\.part01of12$/)
  for (const name of ['m.gguf.part0of2', 'm.gguf.part3of2', 'm.bin.part1of2', 'm.gguf.part1of2.txt']) {
    assert.equal(filesOf(`https://x.test/${name}`)[0]?.pieces, undefined, name)
  }
  // `resolveSource` is for one file as it is written.
  assert.equal(resolveSource('https://x.test/m.gguf.part1of2', none).fileName, 'm.gguf.part1of2')
})

test('a hub name beyond 200 bytes is shortened, by the same rule each time, and keeps what it ends with', () => {
  const long = 'very-long-name-é'.repeat(20)
  const one = filesOf(`hf:ann/repo/${long}.gguf`)[0]
  const other = filesOf(`hf:ann/repo/${long}x.gguf`)[0]
  assert.equal(filesOf(`hf:ann/repo/${long}.gguf`)[0]?.fileName, one?.fileName)
  for (const file of [one, other]) {
    for (const name of [file?.fileName, file?.distinctName]) {
      assert.ok(Buffer.byteLength(name ?? '') <= 200)
      assert.match(name ?? '', /^hf_ann_repo_very-long-name-.*\.gguf$/)
    }
  }
  assert.notEqual(one?.fileName, other?.fileName)
  const parts = filesOf(`hf:ann/repo/${long}-00001-of-00002.gguf`)
  const stems = parts.map(({ fileName }) => fileName.replace(/-0000\d-of-00002\.gguf$/, ''))
  assert.deepEqual(stems, [stems[0], stems[0]])
  assert.ok(parts.every(({ fileName }) => Buffer.byteLength(fileName) <= 200))
  // What the caller writes is never changed.
  const url = 'https://x.test/m.gguf'
  assert.throws(() => filesOf({ url, fileName: 'x'.repeat(201) }), { code: 'ERR_MODEL_INVALID_SOURCE' })
})

test('property: names of any length fit, and two that differ stay two', () => {
  const stem = fc.string({ unit: fc.constantFrom('a', 'é', '漢', '𝄞', '-'), minLength: 1, maxLength: 150 })
  const nameOf = (text: string) => filesOf(`hf:ann/repo/${text}.gguf`)[0]
  fc.assert(
    fc.property(stem, stem, (one, two) => {
      const [first, second] = [nameOf(one), nameOf(two)]
      for (const file of [first, second]) {
        assert.ok(Buffer.byteLength(file?.fileName ?? '') <= 200)
        assert.ok(Buffer.byteLength(file?.distinctName ?? '') <= 200)
        assert.equal(Buffer.from(file?.fileName ?? '').toString(), file?.fileName)
      }
      assert.equal(first?.fileName === second?.fileName, one === two)
    }),
    runs(300),
  )
})
