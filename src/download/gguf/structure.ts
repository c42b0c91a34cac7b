// Tells whether a file can be a whole GGUF. Its header, keys and tensor infos are read, and the bytes that its tensors need
// are compared with the bytes that it has. What is in the tensors is not looked at: that is for a hash to say.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian)
//
// The file may lie: a count or a length in it is a claim. Nothing is allocated by a claim, and each turn of each loop takes
// 8 bytes of the file or more. So a loop ends with the file, and what one block holds is a few milliseconds' work.
//
// A u64 is read into a number: exact up to 2^53, and above that never too small to be told from what a file can have.
import { type FileHandle, open } from 'node:fs/promises'
import { onDisk } from '../disk/files.ts'
import { ggufHeaderBytes, whyNotGguf } from './header.ts'

/**
 * Why the first `bytes` bytes of an open file cannot be a whole GGUF (for people: "it …"), or `undefined` when they can.
 * `bytes` is the size of the whole file; more than its tensors need is no fault. Reads some MB at most of a real model.
 *
 * @throws what `handle.read` throws.
 */
export async function whyBadGguf(handle: FileHandle, bytes: number): Promise<string | undefined> {
  const found = await ggufNeeds(handle, bytes)
  if ('why' in found) return found.why
  return found.needed > bytes ? whyCut(found.needed, bytes) : undefined
}

/** For people: "it …". */
export function whyCut(needed: number, bytes: number): string {
  return `its tensors need ${needed} bytes and it has ${bytes}`
}

/**
 * How many bytes the file must have by its tensor infos; or why that can't be told. `isCut`: nothing is wrong in the first
 * `bytes` bytes, but the infos end behind them.
 *
 * @throws what `handle.read` throws.
 */
export async function ggufNeeds(
  handle: FileHandle,
  bytes: number,
): Promise<{ readonly needed: number } | { readonly why: string; readonly isCut: boolean }> {
  const reader = new Reader(handle, bytes)
  try {
    await reader.ahead(ggufHeaderBytes)
    const why = whyNotGguf(reader.peek(ggufHeaderBytes))
    if (why) return { why, isCut: false }
    reader.skip(8)
    const tensors = reader.u64()
    const keys = reader.u64()
    const alignment = await readKeys(reader, keys)
    const dataBytes = await readTensors(reader, tensors, alignment)
    if (tensors === 0) return { needed: reader.position }
    return { needed: Math.ceil(reader.position / alignment) * alignment + dataBytes }
  } catch (error) {
    if (error instanceof Flaw) return { why: error.message, isCut: error instanceof Cut }
    throw error
  }
}

/**
 * Like `whyBadGguf`, of a file by its path.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_FILE_SYSTEM` when it cannot be read.
 */
export async function checkGguf(path: string): Promise<string | undefined> {
  const handle = await onDisk('opening', path, open(path, 'r'))
  try {
    const { size } = await onDisk('looking at', path, handle.stat())
    return await onDisk('reading', path, whyBadGguf(handle, size))
  } finally {
    await handle.close()
  }
}

/** The message says what is wrong with the file. */
class Flaw extends Error {}

/** It ends too early. */
class Cut extends Flaw {}

const blockBytes = 128 * 1024
/** Far above the 30 MB that the largest tokenizers take; what is skipped, such as a long string, does not count. */
const maxReadBytes = 256 * 1024 * 1024

/** Reads a file from its beginning on. `ahead` gets bytes, what follows it takes them without waiting. */
class Reader {
  /** What is being read, for the message when the file ends in it. */
  part: 'keys' | 'tensor infos' = 'keys'
  readonly #handle: FileHandle
  readonly #bytes: number
  readonly #block: Buffer
  #taken = 0
  #filled = 0
  /** Where in the file the bytes come from that follow the block's. */
  #next = 0
  #read = 0

  constructor(handle: FileHandle, bytes: number) {
    this.#handle = handle
    this.#bytes = bytes
    this.#block = Buffer.allocUnsafe(Math.min(blockBytes, bytes))
  }

  get position(): number {
    return this.#next - this.ready
  }

  /** How many bytes can be taken without waiting. */
  get ready(): number {
    return this.#filled - this.#taken
  }

  /** Gets the next `wanted` bytes, a block at most, or what there is up to the end of the file. */
  async ahead(wanted: number): Promise<void> {
    if (this.ready >= wanted || this.#next === this.#bytes) return
    this.#block.copyWithin(0, this.#taken, this.#filled)
    this.#filled -= this.#taken
    this.#taken = 0
    while (this.#filled < wanted) {
      const length = Math.min(this.#block.length - this.#filled, this.#bytes - this.#next)
      if (length === 0) return
      const { bytesRead } = await this.#handle.read(this.#block, this.#filled, length, this.#next)
      if (bytesRead === 0) return
      this.#filled += bytesRead
      this.#next += bytesRead
      this.#read += bytesRead
      if (this.#read > maxReadBytes) throw new Flaw(`its metadata takes more than ${maxReadBytes} bytes`)
    }
  }

  /** Up to so many of the bytes that follow; they are not taken. */
  peek(count: number): Buffer {
    return this.#block.subarray(this.#taken, Math.min(this.#taken + count, this.#filled))
  }

  u32(): number {
    return this.#block.readUInt32LE(this.#take(4))
  }

  u64(): number {
    const at = this.#take(8)
    return this.#block.readUInt32LE(at) + this.#block.readUInt32LE(at + 4) * 2 ** 32
  }

  text(bytes: number): string {
    const at = this.#take(bytes)
    return this.#block.toString('utf8', at, at + bytes)
  }

  /** Any number of bytes, whether they are in the block or not. */
  skip(count: number): void {
    if (count <= this.ready) {
      this.#taken += count
      return
    }
    if (count > this.#bytes - this.position) throw this.#cut()
    this.#next += count - this.ready
    this.#taken = this.#filled = 0
  }

  #take(count: number): number {
    if (count > this.ready) throw this.#cut()
    const at = this.#taken
    this.#taken += count
    return at
  }

  #cut(): Cut {
    return new Cut(`it ends after ${this.#bytes} bytes, inside its ${this.part}`)
  }
}

const maxKeyBytes = 65_535
const defaultAlignment = 32
const u32Type = 4
const stringType = 8
const arrayType = 9
/** Sizes of the other types of values. */
const valueBytes = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8]
/** u32 type, u64 count. */
const arrayHeadBytes = 12
/** llama.cpp reads no arrays of arrays at all. */
const maxArrayDepth = 8

/** Goes over the keys and their values; resolves with the alignment of the tensors' data. */
async function readKeys(reader: Reader, count: number): Promise<number> {
  let alignment = defaultAlignment
  for (let index = 0; index < count; index++) {
    const most = 8 + maxKeyBytes + 4 + arrayHeadBytes
    if (reader.ready < most) await reader.ahead(most)
    const length = reader.u64()
    if (length === 0 || length > maxKeyBytes) throw new Flaw(`the name of its key ${index} has ${length} bytes`)
    const key = reader.text(length)
    const type = reader.u32()
    const bytes = valueBytes[type]
    if (key === 'general.alignment') alignment = readAlignment(reader, type)
    else if (bytes !== undefined) reader.skip(bytes)
    else if (type === stringType) reader.skip(reader.u64())
    else if (type === arrayType) await skipArray(reader, key)
    else throw unknownType(key, type)
  }
  return alignment
}

/** By the rules of llama.cpp, which takes any power of two and no other type. */
function readAlignment(reader: Reader, type: number): number {
  if (type !== u32Type) throw new Flaw(`its alignment is a value of type ${type}`)
  const alignment = reader.u32()
  if (alignment === 0 || (alignment & (alignment - 1)) !== 0) throw new Flaw(`its alignment is ${alignment}`)
  return alignment
}

async function skipArray(reader: Reader, key: string, depth = 1): Promise<void> {
  if (depth > maxArrayDepth) throw new Flaw(`its key ${quoted(key)} has arrays more than ${maxArrayDepth} deep`)
  if (reader.ready < arrayHeadBytes) await reader.ahead(arrayHeadBytes)
  const type = reader.u32()
  const count = reader.u64()
  const bytes = valueBytes[type]
  if (bytes !== undefined) return reader.skip(count * bytes)
  if (type !== stringType && type !== arrayType) throw unknownType(key, type)
  for (let index = 0; index < count; index++) {
    if (type === arrayType) {
      await skipArray(reader, key, depth + 1)
      continue
    }
    if (reader.ready < 8) await reader.ahead(8)
    reader.skip(reader.u64())
  }
}

function unknownType(key: string, type: number): Flaw {
  return new Flaw(`its key ${quoted(key)} has a value of the unknown type ${type}`)
}

const maxTensorNameBytes = 64
const maxDimensions = 4
const maxTensorInfoBytes = 8 + maxTensorNameBytes + 4 + maxDimensions * 8 + 4 + 8

/** Goes over the tensor infos; resolves with the size of the data that they describe. */
async function readTensors(reader: Reader, count: number, alignment: number): Promise<number> {
  reader.part = 'tensor infos'
  let end = 0
  for (let index = 0; index < count; index++) {
    if (reader.ready < maxTensorInfoBytes) await reader.ahead(maxTensorInfoBytes)
    const length = reader.u64()
    if (length > maxTensorNameBytes) throw new Flaw(`the name of its tensor ${index} has ${length} bytes`)
    const name = reader.text(length)
    const bytes = readTensorBytes(reader, name)
    const offset = reader.u64()
    if (offset % alignment !== 0) throw new Flaw(`its tensor ${quoted(name)} begins at ${offset}, not aligned`)
    if (!Number.isSafeInteger(offset + bytes))
      throw new Flaw(`its tensor ${quoted(name)} has an impossible size or place`)
    end = Math.max(end, offset + bytes)
  }
  return end
}

function readTensorBytes(reader: Reader, name: string): number {
  const dimensions = reader.u32()
  if (dimensions > maxDimensions) throw new Flaw(`its tensor ${quoted(name)} has ${dimensions} dimensions`)
  const row = dimensions > 0 ? reader.u64() : 1
  let rows = 1
  for (let dimension = 1; dimension < dimensions; dimension++) rows *= reader.u64()
  const type = reader.u32()
  const block = tensorTypes[type]
  // Newer than this table: llama.cpp may know it, and what it needs is not known here.
  if (!block) return 0
  const [values, bytes] = block
  if (row % values !== 0) {
    throw new Flaw(
      `its tensor ${quoted(name)} has rows of ${row} values, in a type that has them in blocks of ${values}`,
    )
  }
  return (row / values) * bytes * rows
}

/**
 * How many values one block of a tensor type has, and how many bytes. As `ggml_blck_size` and `ggml_type_size` of llama.cpp say
 * (a test compares them). Missing are types that are no more.
 */
const tensorTypes: Readonly<Record<number, readonly [values: number, bytes: number]>> = {
  0: [1, 4], // F32
  1: [1, 2], // F16
  2: [32, 18], // Q4_0
  3: [32, 20], // Q4_1
  6: [32, 22], // Q5_0
  7: [32, 24], // Q5_1
  8: [32, 34], // Q8_0
  9: [32, 36], // Q8_1
  10: [256, 84], // Q2_K
  11: [256, 110], // Q3_K
  12: [256, 144], // Q4_K
  13: [256, 176], // Q5_K
  14: [256, 210], // Q6_K
  15: [256, 292], // Q8_K
  16: [256, 66], // IQ2_XXS
  17: [256, 74], // IQ2_XS
  18: [256, 98], // IQ3_XXS
  19: [256, 50], // IQ1_S
  20: [32, 18], // IQ4_NL
  21: [256, 110], // IQ3_S
  22: [256, 82], // IQ2_S
  23: [256, 136], // IQ4_XS
  24: [1, 1], // I8
  25: [1, 2], // I16
  26: [1, 4], // I32
  27: [1, 8], // I64
  28: [1, 8], // F64
  29: [256, 56], // IQ1_M
  30: [1, 2], // BF16
  34: [256, 54], // TQ1_0
  35: [256, 66], // TQ2_0
  39: [32, 17], // MXFP4
  40: [64, 36], // NVFP4
  41: [128, 18], // Q1_0
  42: [64, 18], // Q2_0
}

/** A name out of the file, for a message. */
function quoted(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name)
}
