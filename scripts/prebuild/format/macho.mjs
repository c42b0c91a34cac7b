// macOS. What a dylib asks of the system and offers to it, its ad-hoc signature, and universal files (Apple, <mach-o/loader.h>,
// <mach-o/fat.h>, <kern/cs_blobs.h>).
import { createHash } from 'node:crypto'

const cpus = { 16777223: 'x64', 16777228: 'arm64' }
const commands = { symtab: 0x2, dysymtab: 0xb, idDylib: 0xd, signature: 0x1d, dyldInfo: 0x80000022, build: 0x32 }
// LC_LOAD_DYLIB, its weak form, its re-exporting form, LC_LAZY_LOAD_DYLIB
const loads = [0xc, 0x80000018, 0x8000001f, 0x20]
const stabs = 0xe0
const pageAlignment = 14

function commandsOf(bytes) {
  const found = []
  for (let left = bytes.readUInt32LE(16), at = 32; left > 0; left--, at += bytes.readUInt32LE(at + 4)) {
    found.push({ at, kind: bytes.readUInt32LE(at) })
  }
  return found
}

function fieldsOf(bytes, kind, ...fields) {
  const command = commandsOf(bytes).find((one) => one.kind === kind)
  return command && fields.map((field) => bytes.readUInt32LE(command.at + field))
}

export function readMachO(bytes) {
  const text = (from) => bytes.toString('latin1', from, bytes.indexOf(0, from))
  const libraries = commandsOf(bytes)
    .filter(({ kind }) => loads.includes(kind))
    .map(({ at }) => text(at + bytes.readUInt32LE(at + 8)))
  const [minimum] = fieldsOf(bytes, commands.build, 12)
  const [trie] = fieldsOf(bytes, commands.dyldInfo, 40)
  const symbols = symbolsOf(bytes)
  return {
    cpu: cpus[bytes.readUInt32LE(4)],
    libraries,
    exports: [...walkTrie(bytes, trie)].map(([name]) => name.slice(1)),
    imports: symbols.filter((one) => one.isUndefined).map((one) => one.name),
    // Flat lookup must find no one's C++ library in here, so no other name may be left either.
    named: symbols.filter((one) => !one.isUndefined && one.name !== '').map((one) => one.name.slice(1)),
    minimumSystem: `${minimum >> 16}.${(minimum >> 8) & 0xff}`,
    signature: signatureState(bytes),
  }
}

function symbolsOf(bytes) {
  const [symbols, count, strings] = fieldsOf(bytes, commands.symtab, 8, 12, 16)
  return Array.from({ length: count }, (_, index) => {
    const at = symbols + index * 16
    const from = strings + bytes.readUInt32LE(at)
    const type = bytes[at + 4]
    return {
      at,
      from,
      name: bytes.toString('latin1', from, bytes.indexOf(0, from)),
      type,
      isUndefined: (type & 0x0e) === 0,
    }
  })
}

function readUleb(bytes, at) {
  let value = 0
  for (let shift = 0; ; shift += 7) {
    value += (bytes[at] & 0x7f) * 2 ** shift
    if (bytes[at++] < 0x80) return [value, at]
  }
}

/** [name, payload] of each symbol in an export trie. */
function* walkTrie(bytes, start, node = start, prefix = '') {
  const [size, payload] = readUleb(bytes, node)
  if (size > 0) yield [prefix, bytes.subarray(payload, payload + size)]
  let at = payload + size
  for (let children = bytes[at++]; children > 0; children--) {
    const end = bytes.indexOf(0, at)
    const [child, next] = readUleb(bytes, end + 1)
    yield* walkTrie(bytes, start, start + child, prefix + bytes.toString('latin1', at, end))
    at = next
  }
}

/** A trie of one level. That siblings begin alike costs a lookup some comparisons; none of the names may begin with another whole. */
function makeTrie(entries) {
  const size = 2 + entries.reduce((sum, [name]) => sum + name.length + 2, 0)
  const leaves = entries.map(([, payload]) => Buffer.concat([Buffer.from([payload.length]), payload, Buffer.from([0])]))
  const root = [Buffer.from([0, entries.length])]
  let offset = size
  for (const [index, [name]] of entries.entries()) {
    root.push(Buffer.from(`${name}\0`, 'latin1'), Buffer.from([offset]))
    offset += leaves[index].length
  }
  // A number of up to 127 is one byte; payloads and offsets are.
  if (offset > 127) throw new Error('more exports than a one-byte offset can reach')
  return Buffer.concat([...root, ...leaves])
}

/**
 * Takes all exports and names but those of `exports` out of a dylib: Zig 0.11's linker exports hidden symbols too, and knows no option
 * against it. Everything keeps its place, so nothing else in the file changes but the signature, which is renewed.
 */
export function settleMachO(bytes, exports) {
  const isKept = (name) => exports.includes(name.slice(1))
  const [trie, trieSize] = fieldsOf(bytes, commands.dyldInfo, 40, 44)
  const kept = [...walkTrie(bytes, trie)].filter(([name]) => isKept(name))
  const newTrie = makeTrie(kept.map(([name, payload]) => [name, Buffer.from(payload)]))
  bytes.fill(0, trie, trie + trieSize)
  newTrie.copy(bytes, trie)
  const { at: info } = commandsOf(bytes).find(({ kind }) => kind === commands.dyldInfo)
  bytes.writeUInt32LE(Math.ceil(newTrie.length / 8) * 8, info + 44)
  dropSymbols(bytes, isKept)
  sign(bytes)
}

/** The symbol table lists local symbols, then exported ones, then undefined ones: the kept ones go to the end of the exported. */
function dropSymbols(bytes, isKept) {
  const [strings] = fieldsOf(bytes, commands.symtab, 16)
  const { at } = commandsOf(bytes).find(({ kind }) => kind === commands.dysymtab)
  const [locals, exported] = [bytes.readUInt32LE(at + 12), bytes.readUInt32LE(at + 20)]
  const all = symbolsOf(bytes)
  const defined = all.slice(0, locals + exported)
  const first = defined[0].at
  const kept = defined.filter((one) => isKept(one.name) && (one.type & stabs) === 0)
  const entries = kept.map((one) => Buffer.from(bytes.subarray(one.at, one.at + 16)))
  const needed = new Set([...kept, ...all.slice(defined.length)].map((one) => one.from))
  for (const one of defined) if (!needed.has(one.from)) bytes.fill(0, one.from, one.from + one.name.length)
  const dropped = defined.length - kept.length
  // No name, no place: an absolute local symbol of value 0. The string table begins with an empty string.
  const nobody = Buffer.alloc(16)
  nobody[4] = 0x02
  for (let index = 0; index < dropped; index++) nobody.copy(bytes, first + index * 16)
  for (const [index, entry] of entries.entries()) entry.copy(bytes, first + (dropped + index) * 16)
  if (bytes[strings] !== 0) throw new Error('the string table does not begin with an empty string')
  for (const [field, value] of [
    [12, dropped],
    [16, dropped],
    [20, kept.length],
  ]) {
    bytes.writeUInt32LE(value, at + field)
  }
}

/** The code directory of the ad-hoc signature: a hash of each page of the file. Undefined where there is no signature. */
function codeDirectoryOf(bytes) {
  const [start] = fieldsOf(bytes, commands.signature, 8) ?? []
  if (start === undefined) return undefined
  for (let index = 0; index < bytes.readUInt32BE(start + 8); index++) {
    const at = start + bytes.readUInt32BE(start + 12 + index * 8 + 4)
    if (bytes.readUInt32BE(at) !== 0xfade0c02) continue
    const [hashes, , slots, limit] = [16, 24, 28, 32].map((field) => bytes.readUInt32BE(at + field))
    const [hashSize, hashType, , pageBits] = bytes.subarray(at + 36, at + 40)
    if (hashSize !== 32 || hashType !== 2) throw new Error('the signature has hashes other than SHA-256')
    return Array.from({ length: slots }, (_, slot) => {
      const from = slot * 2 ** pageBits
      const page = bytes.subarray(from, Math.min(from + 2 ** pageBits, limit))
      return { at: at + hashes + slot * 32, page }
    })
  }
  return undefined
}

const hashOf = (page) => createHash('sha256').update(page).digest()

function sign(bytes) {
  for (const { at, page } of codeDirectoryOf(bytes) ?? []) hashOf(page).copy(bytes, at)
}

function signatureState(bytes) {
  const slots = codeDirectoryOf(bytes)
  if (slots === undefined) return 'none'
  return slots.every(({ at, page }) => hashOf(page).equals(bytes.subarray(at, at + 32))) ? 'valid' : 'broken'
}

/** One file for several processors. */
export function joinSlices(slices) {
  const header = Buffer.alloc(8 + slices.length * 20)
  header.writeUInt32BE(0xcafebabe, 0)
  header.writeUInt32BE(slices.length, 4)
  const parts = [header]
  let end = header.length
  for (const [index, slice] of slices.entries()) {
    const offset = Math.ceil(end / 2 ** pageAlignment) * 2 ** pageAlignment
    const at = 8 + index * 20
    header.writeUInt32BE(slice.readUInt32LE(4), at)
    header.writeUInt32BE(slice.readUInt32LE(8), at + 4)
    header.writeUInt32BE(offset, at + 8)
    header.writeUInt32BE(slice.length, at + 12)
    header.writeUInt32BE(pageAlignment, at + 16)
    parts.push(Buffer.alloc(offset - end), slice)
    end = offset + slice.length
  }
  return Buffer.concat(parts)
}

export function splitSlices(bytes) {
  return Array.from({ length: bytes.readUInt32BE(4) }, (_, index) => {
    const [offset, size] = [16, 20].map((field) => bytes.readUInt32BE(index * 20 + field))
    return bytes.subarray(offset, offset + size)
  })
}
