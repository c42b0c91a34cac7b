// Writes GGUFs of any content, whole or not, byte by byte: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
import fc from 'fast-check'
import { text, u32, u64 } from './tiny-gguf.ts'

// --- The format -----------------------------------------------------------------------------------------------------

/** Sizes in bytes of the types of values that have one: U8, I8, U16, I16, U32, I32, F32, BOOL, U64, I64, F64. */
const sizes = new Map([
  ...([0, 1, 7] as const).map((type) => [type, 1] as const),
  ...([2, 3] as const).map((type) => [type, 2] as const),
  ...([4, 5, 6] as const).map((type) => [type, 4] as const),
  ...([10, 11, 12] as const).map((type) => [type, 8] as const),
])
const [u32Type, stringType, arrayType] = [4, 8, 9]

/** Some types of tensors: their number, the values in a block, its bytes. From ggml's table of type traits. */
const tensorTypes = [
  { type: 0, values: 1, bytes: 4 },
  { type: 1, values: 1, bytes: 2 },
  { type: 2, values: 32, bytes: 18 },
  { type: 8, values: 32, bytes: 34 },
  { type: 14, values: 256, bytes: 210 },
  { type: 24, values: 1, bytes: 1 },
] as const

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple
}

// --- Any content ----------------------------------------------------------------------------------------------------

/** A value with its type before it. */
const plainValue = fc
  .tuple(fc.constantFrom(...sizes), fc.uint8Array({ minLength: 8, maxLength: 8 }))
  .map(([[type, size], bytes]) => Buffer.concat([u32(type), bytes.subarray(0, size)]))
const stringValue = fc.string({ maxLength: 12 }).map((value) => Buffer.concat([u32(stringType), text(value)]))

/** Of values that all have the type of the first, as arrays do. */
function arrayOf(values: readonly Buffer[]): Buffer {
  const type = values[0]?.readUInt32LE() ?? 0
  const alike = values.filter((value) => value.readUInt32LE() === type).map((value) => value.subarray(4))
  return Buffer.concat([u32(arrayType), u32(type), u64(alike.length), ...alike])
}

const { value: anyValue } = fc.letrec<{ value: Buffer; array: Buffer }>((tie) => ({
  value: fc.oneof({ maxDepth: 4 }, plainValue, stringValue, tie('array')),
  array: fc.array(tie('value'), { maxLength: 5 }).map(arrayOf),
}))

const anyKey = fc
  .tuple(
    fc.string({ minLength: 1, maxLength: 12 }).filter((name) => name !== 'general.alignment'),
    anyValue,
  )
  .map(([name, value]) => Buffer.concat([text(name), value]))

const anyTensor = fc.record({
  name: fc.string({ maxLength: 16 }),
  type: fc.constantFrom(...tensorTypes),
  blocks: fc.nat(3),
  /** Of the dimensions after the first. */
  rows: fc.array(fc.nat(3), { maxLength: 3 }),
  /** Bytes that nobody needs before it, in alignments. */
  gap: fc.nat(2),
})

export interface Gguf {
  readonly bytes: Buffer
  /** So many of them a whole file has. */
  readonly needed: number
}

interface Parts {
  readonly version: number
  readonly alignment: number | undefined
  readonly keys: readonly Buffer[]
  readonly tensors: readonly {
    readonly name: string
    readonly type: { readonly type: number; readonly values: number; readonly bytes: number }
    readonly blocks: number
    readonly rows: readonly number[]
    readonly gap: number
  }[]
  readonly spare: number
}

function encode({ version, alignment: chosen, keys, tensors, spare }: Parts): Gguf {
  const alignment = chosen ?? 32
  const allKeys = [...keys]
  if (chosen !== undefined) allKeys.push(Buffer.concat([text('general.alignment'), u32(u32Type), u32(chosen)]))
  let data = 0
  let end = 0
  const infos = tensors.map(({ name, type, blocks, rows, gap }) => {
    const offset = roundUp(data, alignment) + gap * alignment
    const bytes = blocks * type.bytes * rows.reduce((product, count) => product * count, 1)
    data = offset + bytes
    end = Math.max(end, data)
    const dimensions = [blocks * type.values, ...rows]
    return Buffer.concat([text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type.type), u64(offset)])
  })
  const counts = [u64(tensors.length), u64(allKeys.length)]
  const head = Buffer.concat([Buffer.from('GGUF'), u32(version), ...counts, ...allKeys, ...infos])
  const needed = tensors.length === 0 ? head.length : roundUp(head.length, alignment) + end
  return { bytes: Buffer.concat([head, Buffer.alloc(needed - head.length + spare, 0xa5)]), needed }
}

/** Whole files. */
export const anyGguf: fc.Arbitrary<Gguf> = fc
  .record<Parts>({
    version: fc.constantFrom(2, 3),
    alignment: fc.option(
      fc.nat(7).map((power) => 2 ** power),
      { nil: undefined },
    ),
    keys: fc.array(anyKey, { maxLength: 6 }),
    tensors: fc.array(anyTensor, { maxLength: 4 }),
    spare: fc.constantFrom(0, 0, 1, 100),
  })
  .map(encode)

/** What a liar writes into a length, a count or a type. */
export const ggufLies: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc
    .constantFrom(0n, 1n, 8n, 9n, 65_536n, 1n << 31n, 1n << 32n, 1n << 53n, 1n << 63n, (1n << 64n) - 1n)
    .map((value) => {
      const bytes = Buffer.alloc(8)
      bytes.writeBigUInt64LE(value)
      return bytes
    }),
  fc.constantFrom(8, 9, 10, 13, 2 ** 32 - 1).map(u32),
  fc.uint8Array({ maxLength: 8 }),
)
