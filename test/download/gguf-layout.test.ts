// What cannot be a whole GGUF is told from what can, whatever its header claims, and without reading more than its head.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, truncateSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { checkGguf, whyBadGguf } from '#download/gguf/structure'
import { openDownloadFolder } from '../support/download-folder.ts'
import { makeTinyGguf, text, u32, u64 } from '../support/tiny-gguf.ts'

const MiB = 1024 * 1024
let folder: string
let file: string
let handle: FileHandle

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'os-mutex-gguf-'))
  file = join(folder, 'model.gguf')
  handle = await open(file, 'w+')
})

after(async () => {
  await handle.close()
  rmSync(folder, { recursive: true, force: true, maxRetries: 6 })
})

async function why(content: Buffer): Promise<string | undefined> {
  await handle.truncate(0)
  await handle.write(content, 0, content.length, 0)
  return checkGguf(file)
}

// --- Encoding -------------------------------------------------------------------------------------------------------

const [U8, U16, U32, F32, BOOL, STRING, ARRAY, U64] = [0, 2, 4, 6, 7, 8, 9, 10]
const [TYPE_F32, TYPE_Q4_0, TYPE_I8] = [0, 2, 24]

function key(name: string, type: number, ...value: readonly Buffer[]): Buffer {
  return Buffer.concat([text(name), u32(type), ...value])
}

function array(type: number, count: number | bigint, ...values: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(type), u64(count), ...values])
}

function alignedTo(value: number): Buffer {
  return key('general.alignment', U32, u32(value))
}

function tensor(name: string, dimensions: readonly (number | bigint)[], type: number, offset: number | bigint): Buffer {
  return Buffer.concat([text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset)])
}

interface Parts {
  readonly version?: number
  readonly keys?: readonly Buffer[]
  readonly tensors?: readonly Buffer[]
  /** In the header, where they are not to be right. */
  readonly counts?: readonly [tensors: number | bigint, keys: number | bigint]
  readonly alignment?: number
  readonly dataBytes?: number
}

function gguf({ version = 3, keys = [], tensors = [], counts, alignment = 32, dataBytes = 0 }: Parts): Buffer {
  const [tensorCount, keyCount] = counts ?? [tensors.length, keys.length]
  const head = Buffer.concat([Buffer.from('GGUF'), u32(version), u64(tensorCount), u64(keyCount), ...keys, ...tensors])
  const padding = tensors.length > 0 ? (alignment - (head.length % alignment)) % alignment : 0
  return Buffer.concat([head, Buffer.alloc(padding + dataBytes, 0xa5)])
}

/** Something of everything. Its tensors end 32 bytes before the file does. */
function sample(version = 3): Buffer {
  return gguf({
    version,
    keys: [
      key('general.architecture', STRING, text('llama')),
      alignedTo(64),
      key('a.u8', U8, Buffer.from([1])),
      key('a.u16', U16, Buffer.from([1, 0])),
      key('a.f32', F32, Buffer.alloc(4)),
      key('a.bool', BOOL, Buffer.from([1])),
      key('a.u64', U64, u64(1n << 63n)),
      key('a.empty', STRING, text('')),
      key('a.floats', ARRAY, array(F32, 3, Buffer.alloc(12))),
      key('a.nothing', ARRAY, array(STRING, 0)),
      key('a.tokens', ARRAY, array(STRING, 3, text('<s>'), text(''), text('token'))),
      key(
        'a.nested',
        ARRAY,
        array(ARRAY, 2, array(U16, 2, Buffer.alloc(4)), array(ARRAY, 1, array(STRING, 1, text('deep')))),
      ),
    ],
    tensors: [
      tensor('token_embd.weight', [32, 4, 2], TYPE_Q4_0, 0),
      tensor('output_norm.weight', [5], TYPE_F32, 192),
      tensor('scalar', [], TYPE_F32, 256),
      tensor('of a type to come', [3, 3], 4_000_000_000, 128),
      tensor('last', [31, 1, 1, 1], TYPE_I8, 320),
    ],
    alignment: 64,
    dataBytes: 320 + 31 + 32,
  })
}

// --- Whole files ----------------------------------------------------------------------------------------------------

test('models of llama.cpp and the payloads of our tests are found whole, and told when one byte is missing', async (t) => {
  const models = [256 * 1024, MiB, 5 * MiB + 64].map((bytes, seed) =>
    makeTinyGguf({ path: join(folder, `tiny-${seed}.gguf`), bytes, seed }),
  )
  const { payload } = await openDownloadFolder(t)
  for (const { path, bytes } of [...models, payload(97), payload(100_001), payload(2 * MiB)]) {
    assert.equal(await checkGguf(path), undefined, path)
    truncateSync(path, bytes - 1)
    assert.equal(await checkGguf(path), `its tensors need ${bytes} bytes and it has ${bytes - 1}`)
  }
})

const whole: [string, Buffer][] = [
  ['version 2', sample(2)],
  ['version 3', sample(3)],
  ['no keys and no tensors', gguf({})],
  ['a vocabulary without tensors, which needs no padding', gguf({ keys: [key('a', STRING, text('odd'))] })],
  ['a tensor without values', gguf({ tensors: [tensor('none', [0], TYPE_F32, 0)] })],
  ['bytes behind the last tensor', gguf({ tensors: [tensor('x', [4], TYPE_F32, 0)], dataBytes: 1000 })],
  [
    'an alignment of 1',
    gguf({ keys: [alignedTo(1)], tensors: [tensor('x', [3], TYPE_I8, 0)], alignment: 1, dataBytes: 3 }),
  ],
  ['a name of 64 bytes', gguf({ tensors: [tensor('n'.repeat(64), [3], TYPE_I8, 0)], dataBytes: 3 })],
]

for (const [name, content] of whole) {
  test(`a file can be whole that has: ${name}`, async () => assert.equal(await why(content), undefined))
}

test('a file cut at any byte is told, unless only bytes are missing that nobody needs', async () => {
  const content = sample()
  const needed = content.length - 32
  assert.equal(await why(content), undefined)
  for (let bytes = content.length - 1; bytes >= 0; bytes--) {
    truncateSync(file, bytes)
    const found = await checkGguf(file)
    if (bytes >= needed) assert.equal(found, undefined, `${bytes} bytes`)
    else
      assert.match(found ?? 'whole', /^(it is empty|it begins with|it ends after|its tensors need)/, `${bytes} bytes`)
    if (bytes === needed - 1) assert.equal(found, `its tensors need ${needed} bytes and it has ${bytes}`)
  }
})

test('names, strings, arrays and infos are read right wherever the blocks in which a file is read end', async () => {
  const random = randomNumbers(7)
  const words = Array.from({ length: 60_000 }, () => text('w'.repeat(random(20))))
  const tensors = Array.from({ length: 5_000 }, (_, index) =>
    tensor(`blk.${index}.${'n'.repeat(random(40))}`, [32], TYPE_I8, index * 32),
  )
  for (const extra of [0, 1, 7, 131_072, 131_073, 400_000]) {
    const keys = [
      key('long', STRING, text('l'.repeat(extra))),
      key('words', ARRAY, array(STRING, words.length, ...words)),
      ...Array.from({ length: 3_000 }, (_, index) => key(`k${index}.${'x'.repeat(random(300))}`, U8, Buffer.from([0]))),
      key('bytes', ARRAY, array(U8, extra, Buffer.alloc(extra))),
      key('k'.repeat(65_535), STRING, text('l'.repeat(extra))),
    ]
    const content = gguf({ keys, tensors, dataBytes: 5_000 * 32 })
    assert.equal(await why(content), undefined)
    const cut = content.length - 1
    assert.equal(await whyBadGguf(handle, cut), `its tensors need ${content.length} bytes and it has ${cut}`)
  }
})

/** Not in node-llama-cpp's types. */
interface GgmlTypes {
  getBlockSizeForGgmlType(type: number): number | undefined
  getTypeSizeForGgmlType(type: number): number | undefined
}

test('the size of every tensor type is the one that llama.cpp counts with', async () => {
  const { getLlama, GgmlType } = await import('node-llama-cpp')
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false, maxThreads: 1 })
  const { _bindings: types } = llama as unknown as { readonly _bindings: GgmlTypes }
  const known: number[] = []
  // llama.cpp does not check the number: beyond its own types it reads what lies behind its table.
  for (const type of Object.values(GgmlType).filter((type) => typeof type === 'number')) {
    const values = types.getBlockSizeForGgmlType(type)
    const bytes = types.getTypeSizeForGgmlType(type)
    if (!values || !bytes) continue
    known.push(type)
    const content = gguf({ tensors: [tensor('x', [3 * values, 5], type, 0)], dataBytes: 15 * bytes })
    assert.equal(await why(content), undefined, `type ${type}`)
    const cut = content.length - 1
    assert.equal(
      await whyBadGguf(handle, cut),
      `its tensors need ${content.length} bytes and it has ${cut}`,
      `type ${type}`,
    )
    const uneven = await why(gguf({ tensors: [tensor('x', [values + 1], type, 0)], dataBytes: 2 * bytes }))
    assert.match(uneven ?? 'whole', values > 1 ? /blocks of/ : /whole/, `type ${type}`)
  }
  await llama.dispose()
  assert.ok(known.length > 30, String(known))
})

// --- Hostile files --------------------------------------------------------------------------------------------------

const huge = 1n << 63n
const one = (...info: Parameters<typeof tensor>) => gguf({ tensors: [tensor(...info)], dataBytes: 4096 })
const value = (type: number, ...content: readonly Buffer[]) => gguf({ keys: [key('k', type, ...content)] })
const deep = (depth: number) => value(ARRAY, ...many(depth, array(ARRAY, 1)), array(U8, 0))

function many(count: number, part: Buffer): Buffer[] {
  return [Buffer.concat(Array<Buffer>(count).fill(part))]
}

const hostile: [string, Buffer, RegExp][] = [
  ['2^63 tensors', gguf({ counts: [huge, 0] }), /claims 9223372036854775808 tensors/],
  ['2^64 - 1 keys', gguf({ counts: [0, (1n << 64n) - 1n] }), /claims 0 tensors and 18446744073709551615 keys/],
  ['a million keys that are not there', gguf({ counts: [0, 1_000_000] }), /ends after 24 bytes, inside its keys/],
  [
    'a million tensors that are not there',
    gguf({ counts: [1_000_000, 0] }),
    /ends after 24 bytes, inside its tensor infos/,
  ],
  [
    'a key of 2^63 bytes',
    gguf({ keys: [Buffer.concat([u64(huge), Buffer.alloc(99)])] }),
    /name of its key 0 has 922337203685477\d+ bytes/,
  ],
  [
    'a key of 65,536 bytes',
    gguf({ keys: [key('k'.repeat(65_536), U8, Buffer.alloc(1))] }),
    /name of its key 0 has 65536 bytes/,
  ],
  ['a key without a name', gguf({ keys: [key('', U8, Buffer.alloc(1))] }), /name of its key 0 has 0 bytes/],
  ['a string of 2^63 bytes', value(STRING, u64(huge)), /ends after \d+ bytes, inside its keys/],
  ['a string of 2^64 - 1 bytes', value(STRING, u64((1n << 64n) - 1n), Buffer.alloc(999)), /inside its keys/],
  ['a string of one byte too many', value(STRING, u64(10), Buffer.alloc(9)), /inside its keys/],
  ['an array of 2^63 strings', value(ARRAY, array(STRING, huge, Buffer.alloc(1000))), /inside its keys/],
  ['an array of 2^63 bytes', value(ARRAY, array(U8, huge, Buffer.alloc(1000))), /inside its keys/],
  [
    'an array of 2^61 u64s, which is 2^64 bytes',
    value(ARRAY, array(U64, 1n << 61n, Buffer.alloc(1000))),
    /inside its keys/,
  ],
  ['2^63 arrays in an array', value(ARRAY, array(ARRAY, huge, array(U8, 0))), /inside its keys/],
  ['arrays a million deep', deep(1_000_000), /arrays more than 8 deep/],
  ['a value of type 13', value(13, Buffer.alloc(64)), /its key "k" has a value of the unknown type 13/],
  ['a value of type 2^32 - 1', value(2 ** 32 - 1, Buffer.alloc(64)), /unknown type 4294967295/],
  ['an array of values of type 99', value(ARRAY, array(99, 1, Buffer.alloc(8))), /unknown type 99/],
  ['an empty array of type 99', value(ARRAY, array(99, 0)), /unknown type 99/],
  ['a long name in quotes', gguf({ keys: [key(`"${'k'.repeat(500)}`, 99)] }), /its key "\\"k{63}…" has/],
  ['an alignment of 0', gguf({ keys: [alignedTo(0)] }), /its alignment is 0/],
  ['an alignment of 3', gguf({ keys: [alignedTo(3)] }), /its alignment is 3/],
  [
    'an alignment in words',
    gguf({ keys: [key('general.alignment', STRING, text('32'))] }),
    /its alignment is a value of type 8/,
  ],
  [
    'an alignment of 2^31',
    gguf({ keys: [alignedTo(2 ** 31)], tensors: [tensor('x', [1], TYPE_I8, 0)] }),
    /need 2147483649 bytes/,
  ],
  ['a tensor name of 65 bytes', one('n'.repeat(65), [1], TYPE_I8, 0), /name of its tensor 0 has 65 bytes/],
  [
    'a tensor name of 2^63 bytes',
    gguf({ tensors: [Buffer.concat([u64(huge), Buffer.alloc(99)])] }),
    /name of its tensor 0 has 9/,
  ],
  ['a tensor of 5 dimensions', one('x', [1, 1, 1, 1, 1], TYPE_I8, 0), /its tensor "x" has 5 dimensions/],
  [
    'a tensor of 2^32 - 1 dimensions',
    gguf({ tensors: [Buffer.concat([text('x'), u32(2 ** 32 - 1), Buffer.alloc(99)])] }),
    /4294967295 dim/,
  ],
  [
    'dimensions that multiply to 2^64',
    one('x', [1n << 32n, 1n << 32n], TYPE_I8, 0),
    /"x" has an impossible size or place/,
  ],
  ['dimensions that multiply to 2^256', one('x', [huge, huge, huge, huge], TYPE_F32, 0), /impossible size/],
  ['values of which there are 2^62, in 2^64 bytes', one('x', [1n << 62n], TYPE_F32, 0), /impossible size/],
  [
    'rows that end inside a block',
    one('x', [48], TYPE_Q4_0, 0),
    /rows of 48 values, in a type that has them in blocks of 32/,
  ],
  ['one quantized value', one('x', [], TYPE_Q4_0, 0), /rows of 1 values/],
  ['a tensor that begins behind the file', one('x', [1], TYPE_I8, 8192), /its tensors need 8257 bytes and it has 4160/],
  ['a tensor of an unknown type there', one('x', [1], 4_000, 8192), /its tensors need 8256 bytes and it has 4160/],
  ['a tensor that begins at 2^63', one('x', [1], TYPE_I8, huge), /impossible size or place/],
  ['a tensor that ends at 2^64', one('x', [64], TYPE_I8, (1n << 64n) - 64n), /impossible size or place/],
  ['a tensor that is not aligned', one('x', [1], TYPE_I8, 16), /its tensor "x" begins at 16, not aligned/],
  [
    'a first tensor that ends behind the last',
    gguf({ tensors: [tensor('x', [999], TYPE_I8, 0), tensor('y', [1], TYPE_I8, 32)] }),
    /need/,
  ],
]

for (const [name, content, message] of hostile) {
  test(`a file is told that has: ${name}`, async () => assert.match((await why(content)) ?? 'whole', message))
}

test('a file of a tebibyte is judged by its head alone', async () => {
  await why(gguf({ tensors: [tensor('x', [1n << 40n], TYPE_I8, 0)] }))
  assert.equal(await whyBadGguf(handle, 2 ** 40 + 64), undefined)
  assert.equal(await whyBadGguf(handle, 2 ** 40 + 63), 'its tensors need 1099511627840 bytes and it has 1099511627839')
})

const small: [string, Buffer][] = [
  ['strings', value(ARRAY, array(STRING, MiB / 4, Buffer.alloc(2 * MiB)))],
  ['arrays', value(ARRAY, array(ARRAY, MiB / 4, Buffer.alloc(3 * MiB)))],
  ['keys', gguf({ counts: [0, 100_000], keys: many(100_000, key('k', U8, Buffer.alloc(1))) })],
  ['tensors', gguf({ counts: [100_000, 0], tensors: many(100_000, tensor('', [], TYPE_I8, 0)), dataBytes: 1 })],
]

for (const [name, content] of small) {
  test(`the event loop goes on turning while a file of the smallest ${name} is read`, async () => {
    let turns = 0
    let next = setImmediate(function turn() {
      turns++
      next = setImmediate(turn)
    })
    assert.equal(await why(content), undefined)
    clearImmediate(next)
    assert.ok(turns > (4 * content.length) / MiB, `${turns} turns in ${content.length} bytes`)
  })
}

test('more metadata than a model can have is not read to its end', async () => {
  await why(value(ARRAY, array(STRING, 40 * MiB)))
  // The rest is a hole, which reads as empty strings.
  truncateSync(file, 1024 * MiB)
  assert.match((await checkGguf(file)) ?? 'whole', /its metadata takes more than 268435456 bytes/)
})

test('2,000 random changes of a whole file make nothing fail or take long', async () => {
  const random = randomNumbers(1)
  const original = sample()
  let told = 0
  const begun = performance.now()
  for (let round = 0; round < 2_000; round++) {
    const content = mutated(original, random)
    const found = await why(content)
    assert.ok(found === undefined || found.length > 0)
    if (found !== undefined) told++
  }
  assert.ok(told > 500 && told < 2_000, `${told} of 2000 told`)
  assert.ok(performance.now() - begun < 60_000)
})

test('a file that cannot be read is an error and not a verdict', async () => {
  await assert.rejects(checkGguf(join(folder, 'absent.gguf')), {
    code: 'ERR_MODEL_FILE_SYSTEM',
    message: /absent\.gguf \(ENOENT\)/,
  })
})

/** Some bytes changed, a field made a lie, or a piece taken out or put in twice. */
function mutated(original: Buffer, random: (below: number) => number): Buffer {
  const lies = [0n, 1n, 255n, 1n << 31n, 1n << 32n, 1n << 53n, huge, (1n << 64n) - 1n, BigInt(random(original.length))]
  let content = Buffer.from(original)
  for (let changes = 1 + random(3); changes > 0; changes--) {
    const at = random(content.length - 8)
    const kind = random(4)
    if (kind === 0) content[at] = random(256)
    else if (kind === 1) content.writeBigUInt64LE(lies[random(lies.length)] ?? 0n, at)
    else if (kind === 2) content = Buffer.concat([content.subarray(0, at), content.subarray(at + random(16))])
    else content = Buffer.concat([content.subarray(0, at + random(8)), content.subarray(at)])
  }
  return content
}

/** Whole numbers from 0 up to below a limit, the same for the same seed (xorshift32). */
function randomNumbers(seed: number): (below: number) => number {
  let state = Math.imul(seed, 0x9e3779b1) >>> 0
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}
