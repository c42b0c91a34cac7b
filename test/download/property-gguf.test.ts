// Whatever is in a file: the readers of GGUF give a verdict and nothing else, within the file and within bounds, and the verdict on
// whole and on cut files is right. gguf-layout.test.ts has the lies that are known.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ggufHeaderBytes, whyNotGguf } from '#download/gguf/header'
import { anyGguf, ggufLies } from '../support/gguf-bytes.ts'
import { type Pieces, verdictOn } from '../support/gguf-verdict.ts'
import { bytesUpTo, damaged, damages, runs } from '../support/properties.ts'

const pieces = fc.oneof(
  fc.constant<Pieces>([]),
  fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 5 }),
)

test('a file is whole just when it has all bytes that its tensors need, wherever it is cut off and however it is read', async () => {
  await fc.assert(
    fc.asyncProperty(anyGguf, fc.nat(), pieces, async ({ bytes, needed }, at, how) => {
      assert.equal(await verdictOn(bytes, bytes.length, how), undefined)
      assert.equal(await verdictOn(bytes.subarray(0, needed), needed, how), undefined)
      for (const cut of [needed - 1, at % needed]) {
        const found = await verdictOn(bytes.subarray(0, cut), cut, how)
        assert.match(found ?? 'whole', /^(it is empty|it begins with|it ends after|its tensors need)/, `${cut} bytes`)
      }
    }),
    runs(500),
  )
})

test('a file that loses its end while it is read is judged all the same', async () => {
  await fc.assert(
    fc.asyncProperty(anyGguf, fc.nat(), pieces, async ({ bytes, needed }, at, how) => {
      await verdictOn(bytes.subarray(0, at % needed), bytes.length, how)
      assert.notEqual(await verdictOn(Buffer.alloc(0), bytes.length), undefined)
    }),
    runs(500),
  )
})

test('of a damaged file a verdict is given, within bounds, and the same however it is read', async () => {
  await fc.assert(
    fc.asyncProperty(anyGguf, damages(ggufLies), pieces, async ({ bytes }, damage, how) => {
      const content = damaged(bytes, damage)
      assert.equal(await verdictOn(content, content.length, how), await verdictOn(content))
    }),
    runs(1_000),
  )
})

test('of any bytes behind a good header a verdict is given', async () => {
  const header = (tensors: number, keys: number) =>
    Buffer.from([...Buffer.from('GGUF'), 3, 0, 0, 0, tensors, ...Array(7).fill(0), keys, ...Array(7).fill(0)])
  await fc.assert(
    fc.asyncProperty(fc.nat(255), fc.nat(255), bytesUpTo(2_000), async (tensors, keys, rest) => {
      await verdictOn(Buffer.concat([header(tensors, keys), rest]))
    }),
    runs(500),
  )
})

test('the header of a file is told by its first bytes alone, whichever part of a larger buffer they are', () => {
  const wellBegun = bytesUpTo(60).map((rest) => Buffer.concat([Buffer.from('GGUF'), rest]))
  const counted = fc
    .tuple(
      fc.constantFrom(1, 2, 3, 4, 0x02000000, 0x03000000),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.nat(2_000_000),
    )
    .map(([version, tensors, keys]) => {
      const bytes = Buffer.alloc(ggufHeaderBytes)
      bytes.write('GGUF')
      bytes.writeUInt32LE(version, 4)
      bytes.writeBigUInt64LE(tensors >> BigInt(keys % 64), 8)
      bytes.writeBigUInt64LE(BigInt(keys), 16)
      return bytes
    })
  fc.assert(
    fc.property(fc.oneof(counted, wellBegun, bytesUpTo(60)), fc.nat(9), (bytes, before) => {
      const found = whyNotGguf(
        Buffer.concat([Buffer.alloc(before), bytes, Buffer.alloc(9)]).subarray(before, before + bytes.length),
      )
      const isHeader =
        bytes.length >= ggufHeaderBytes &&
        bytes.toString('latin1', 0, 4) === 'GGUF' &&
        [2, 3].includes(bytes.readUInt32LE(4)) &&
        bytes.readBigUInt64LE(8) <= 1_000_000n &&
        bytes.readBigUInt64LE(16) <= 1_000_000n
      assert.equal(found === undefined, isHeader, found)
    }),
    runs(1_000),
  )
})
