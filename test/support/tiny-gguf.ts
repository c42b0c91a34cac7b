// Writes small llama models with random weights that real llama.cpp loads and generates (nonsense) tokens with.
// Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 3, little-endian, tensor data aligned to 32).
import { createHash } from 'node:crypto'
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

export interface TinyGgufOptions {
  readonly path: string
  /** Exact size of the file, rounded down to a multiple of 32. At least 256 KiB; 1 MiB unless told. */
  readonly bytes?: number
  /** The same seed and size give the same bytes on every machine. */
  readonly seed?: number
}

export interface TinyGguf {
  readonly path: string
  readonly bytes: number
  readonly sha256: string
}

interface Shape {
  readonly width: number
  readonly hidden: number
}

interface Tensor {
  readonly name: string
  readonly dimensions: readonly [number, ...number[]]
  /** Matrices are f16, the norms f32 as llama.cpp wants them. */
  readonly type: 'f16' | 'f32'
}

type Value =
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly bool: boolean }
  | { readonly text: string }
  | { readonly texts: readonly string[] }
  | { readonly f32s: readonly number[] }
  | { readonly i32s: readonly number[] }

const ALIGNMENT = 32
const LAYERS = 4
const HEAD_WIDTH = 32
const CHUNK_WORDS = 256 * 1024
const TOKEN_NORMAL = 1
const TOKEN_UNKNOWN = 2
const TOKEN_CONTROL = 3
const TOKEN_BYTE = 6

export function makeTinyGguf({ path, bytes = 1024 * 1024, seed = 1 }: TinyGgufOptions): TinyGguf {
  const size = Math.floor(bytes / ALIGNMENT) * ALIGNMENT
  const shape = chooseShape(size)
  const tensors = listTensors(shape)
  const random = randomWords(seed)

  // What the shape leaves over, less than one more hidden unit, goes into a string of random text.
  const empty = encodeHeader(shape, tensors, '').length
  const rest = size - dataBytes(tensors) - empty
  const header = encodeHeader(shape, tensors, randomText(random, rest))

  const hash = createHash('sha256')
  mkdirSync(dirname(path), { recursive: true })
  const file = openSync(path, 'w')
  try {
    for (const chunk of fileChunks(header, tensors, random)) {
      hash.update(chunk)
      for (let written = 0; written < chunk.length; ) written += writeSync(file, chunk, written)
    }
  } finally {
    closeSync(file)
  }
  return { path, bytes: size, sha256: hash.digest('hex') }
}

/** The widest model whose hidden layer is still at least as wide as the model; the narrowest one takes what there is. */
function chooseShape(size: number): Shape {
  let best: Shape | undefined
  for (let width = 64; width <= 8192; width *= 2) {
    const least: Shape = { width, hidden: 1 }
    const unit = dataBytes(listTensors({ width, hidden: 2 })) - dataBytes(listTensors(least))
    const spare = size - dataBytes(listTensors(least)) - encodeHeader(least, listTensors(least), '').length
    const hidden = 1 + Math.floor(spare / unit)
    if (hidden < (best === undefined ? 1 : width)) break
    best = { width, hidden }
  }
  if (best === undefined) throw new RangeError(`A tiny model needs at least 256 KiB, not ${size} bytes`)
  return best
}

function listTensors({ width, hidden }: Shape): Tensor[] {
  const matrix = (name: string, columns: number, rows: number): Tensor => ({
    name: `${name}.weight`,
    dimensions: [columns, rows],
    type: 'f16',
  })
  const norm = (name: string): Tensor => ({ name: `${name}.weight`, dimensions: [width], type: 'f32' })
  const layers = Array.from({ length: LAYERS }, (_, index) => [
    norm(`blk.${index}.attn_norm`),
    matrix(`blk.${index}.attn_q`, width, width),
    matrix(`blk.${index}.attn_k`, width, width),
    matrix(`blk.${index}.attn_v`, width, width),
    matrix(`blk.${index}.attn_output`, width, width),
    norm(`blk.${index}.ffn_norm`),
    matrix(`blk.${index}.ffn_gate`, width, hidden),
    matrix(`blk.${index}.ffn_up`, width, hidden),
    matrix(`blk.${index}.ffn_down`, hidden, width),
  ])
  return [
    matrix('token_embd', width, VOCABULARY.length),
    ...layers.flat(),
    norm('output_norm'),
    matrix('output', width, VOCABULARY.length),
  ]
}

/** Enough for llama.cpp's SentencePiece tokenizer: specials, all bytes, the word mark and printable ASCII. */
const VOCABULARY: readonly { readonly text: string; readonly type: number }[] = [
  { text: '<unk>', type: TOKEN_UNKNOWN },
  { text: '<s>', type: TOKEN_CONTROL },
  { text: '</s>', type: TOKEN_CONTROL },
  ...Array.from({ length: 256 }, (_, byte) => ({
    text: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
    type: TOKEN_BYTE,
  })),
  { text: '\u2581', type: TOKEN_NORMAL },
  ...Array.from({ length: 0x7e - 0x20 }, (_, index) => ({
    text: String.fromCharCode(0x21 + index),
    type: TOKEN_NORMAL,
  })),
]

function describe({ width, hidden }: Shape, filler: string): [string, Value][] {
  return [
    ['general.architecture', { text: 'llama' }],
    ['general.name', { text: 'tiny random llama' }],
    ['general.description', { text: filler }],
    ['general.file_type', { u32: 1 }],
    ['llama.context_length', { u32: 512 }],
    ['llama.embedding_length', { u32: width }],
    ['llama.block_count', { u32: LAYERS }],
    ['llama.feed_forward_length', { u32: hidden }],
    ['llama.attention.head_count', { u32: width / HEAD_WIDTH }],
    ['llama.attention.layer_norm_rms_epsilon', { f32: 1e-5 }],
    ['llama.rope.dimension_count', { u32: HEAD_WIDTH }],
    ['llama.vocab_size', { u32: VOCABULARY.length }],
    ['tokenizer.ggml.model', { text: 'llama' }],
    ['tokenizer.ggml.tokens', { texts: VOCABULARY.map((token) => token.text) }],
    ['tokenizer.ggml.scores', { f32s: VOCABULARY.map((_, index) => -index) }],
    ['tokenizer.ggml.token_type', { i32s: VOCABULARY.map((token) => token.type) }],
    ['tokenizer.ggml.bos_token_id', { u32: 1 }],
    ['tokenizer.ggml.eos_token_id', { u32: 2 }],
    ['tokenizer.ggml.unknown_token_id', { u32: 0 }],
    ['tokenizer.ggml.add_bos_token', { bool: true }],
  ]
}

function encodeHeader(shape: Shape, tensors: readonly Tensor[], filler: string): Buffer {
  const entries = describe(shape, filler)
  const parts: Buffer[] = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(entries.length)]
  for (const [key, value] of entries) parts.push(text(key), encodeValue(value))
  let offset = 0
  for (const tensor of tensors) {
    parts.push(text(tensor.name), u32(tensor.dimensions.length), ...tensor.dimensions.map(u64))
    parts.push(u32(tensor.type === 'f16' ? 1 : 0), u64(offset))
    offset += align(tensorBytes(tensor))
  }
  const header = Buffer.concat(parts)
  return Buffer.concat([header, Buffer.alloc(align(header.length) - header.length)])
}

function encodeValue(value: Value): Buffer {
  if ('u32' in value) return Buffer.concat([u32(4), u32(value.u32)])
  if ('f32' in value) return Buffer.concat([u32(6), f32(value.f32)])
  if ('bool' in value) return Buffer.concat([u32(7), Buffer.from([value.bool ? 1 : 0])])
  if ('text' in value) return Buffer.concat([u32(8), text(value.text)])
  if ('texts' in value) return array(8, value.texts.map(text))
  if ('f32s' in value) return array(6, value.f32s.map(f32))
  return array(5, value.i32s.map(u32))
}

function array(type: number, items: readonly Buffer[]): Buffer {
  return Buffer.concat([u32(9), u32(type), u64(items.length), ...items])
}

export function text(content: string): Buffer {
  const encoded = Buffer.from(content)
  return Buffer.concat([u64(encoded.length), encoded])
}

export function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32LE(value)
  return buffer
}

export function u64(value: number | bigint): Buffer {
  const buffer = Buffer.alloc(8)
  buffer.writeBigUInt64LE(BigInt(value))
  return buffer
}

function f32(value: number): Buffer {
  const buffer = Buffer.alloc(4)
  buffer.writeFloatLE(value)
  return buffer
}

function align(length: number): number {
  return Math.ceil(length / ALIGNMENT) * ALIGNMENT
}

function tensorBytes({ dimensions, type }: Tensor): number {
  return dimensions.reduce((product, length) => product * length, type === 'f16' ? 2 : 4)
}

function dataBytes(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, tensor) => sum + align(tensorBytes(tensor)), 0)
}

function* fileChunks(header: Buffer, tensors: readonly Tensor[], random: () => number): Generator<Buffer> {
  yield header
  for (const tensor of tensors) {
    yield* tensor.type === 'f16' ? matrixChunks(tensor, random) : normChunks(tensor, random)
  }
}

/** Sign and mantissa are random; the exponent is that of 1/sqrt(row length), so that activations stay finite. */
function* matrixChunks(tensor: Tensor, random: () => number): Generator<Buffer> {
  const exponent = (15 - Math.round(Math.log2(tensor.dimensions[0]) / 2)) << 10
  const fixed = (exponent << 16) | exponent
  const words = new Uint32Array(CHUNK_WORDS)
  for (let left = tensorBytes(tensor); left > 0; left -= words.byteLength) {
    const count = Math.min(CHUNK_WORDS, Math.ceil(left / 4))
    for (let index = 0; index < count; index++) words[index] = (random() & 0x83ff83ff) | fixed
    yield Buffer.from(words.buffer, 0, Math.min(left, words.byteLength))
  }
  yield Buffer.alloc(align(tensorBytes(tensor)) - tensorBytes(tensor))
}

/** Values from 1 to 1.06. */
function* normChunks(tensor: Tensor, random: () => number): Generator<Buffer> {
  const words = Uint32Array.from({ length: tensor.dimensions[0] }, () => 0x3f800000 | (random() & 0x7ffff))
  yield Buffer.from(words.buffer)
}

function randomText(random: () => number, length: number): string {
  let result = ''
  while (result.length < length) result += random().toString(36)
  return result.slice(0, length)
}

/** Marsaglia's xorshift32: 2^32 - 1 words before it repeats, far more than the largest file holds. */
function randomWords(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b1) >>> 0 || 1
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}
