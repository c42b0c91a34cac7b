// Windows. What a DLL asks of the system and offers to it, and how to make it the same in every build (Microsoft, "PE Format").

const cpus = { 34404: 'x64', 43620: 'arm64' }
const exportsAt = 0
const importsAt = 1
const debugAt = 6
const protections = { addressSpaceRandomised: 0x40, dataNotExecutable: 0x100 }

function open(bytes) {
  const header = bytes.readUInt32LE(0x3c)
  const u16 = (at) => bytes.readUInt16LE(at)
  const u32 = (at) => bytes.readUInt32LE(at)
  const optional = header + 24
  const sections = Array.from({ length: u16(header + 6) }, (_, index) => {
    const at = optional + u16(header + 20) + index * 40
    return { address: u32(at + 12), size: Math.max(u32(at + 8), u32(at + 16)), offset: u32(at + 20) }
  })
  // Where in the file an address of the loaded library lies.
  const offset = (address) => {
    const section = sections.find((one) => address >= one.address && address < one.address + one.size)
    if (section === undefined) throw new Error(`0x${address.toString(16)} lies in no section`)
    return address - section.address + section.offset
  }
  const text = (address) => {
    const from = offset(address)
    return bytes.toString('latin1', from, bytes.indexOf(0, from))
  }
  return { header, optional, u16, u32, offset, text, directory: (index) => u32(optional + 112 + index * 8) }
}

export function readPe(bytes) {
  const { header, optional, u16, u32, offset, text, directory } = open(bytes)
  const libraries = []
  const imports = []
  for (let at = offset(directory(importsAt)); u32(at + 12) !== 0; at += 20) {
    const library = text(u32(at + 12))
    libraries.push(library)
    for (let entry = offset(u32(at)); bytes.readBigUInt64LE(entry) !== 0n; entry += 8) {
      const isOrdinal = bytes.readBigUInt64LE(entry) >> 63n === 1n
      imports.push({ library, name: isOrdinal ? `#${u16(entry)}` : text(u32(entry) + 2) })
    }
  }
  const table = offset(directory(exportsAt))
  const names = offset(u32(table + 32))
  const characteristics = u16(optional + 70)
  return {
    cpu: cpus[u16(header + 4)],
    libraries,
    imports,
    exports: Array.from({ length: u32(table + 24) }, (_, index) => text(u32(names + index * 4))),
    timestamp: u32(header + 8),
    hasDebugInfo: directory(debugAt) !== 0,
    unprotected: Object.keys(protections).filter((name) => (characteristics & protections[name]) === 0),
  }
}

/**
 * Takes the linker's clock out of a DLL, and all exports but the named ones: Zig's linker knows no option for either, and its
 * libunwind exports itself.
 */
export function settlePe(bytes, exports) {
  const { header, u16, u32, offset, text, directory } = open(bytes)
  const table = offset(directory(exportsAt))
  for (const timestamp of [header + 8, table + 4]) bytes.writeUInt32LE(0, timestamp)

  const [addresses, names, ordinals] = [28, 32, 36].map((field) => offset(u32(table + field)))
  const found = Array.from({ length: u32(table + 24) }, (_, index) => {
    const name = u32(names + index * 4)
    return { name, text: text(name), address: u32(addresses + u16(ordinals + index * 2) * 4) }
  })
  const kept = found.filter((one) => exports.includes(one.text))
  for (const { name, text } of found)
    if (!exports.includes(text)) bytes.fill(0, offset(name), offset(name) + text.length)
  bytes.fill(0, addresses, addresses + u32(table + 20) * 4)
  bytes.fill(0, names, names + found.length * 4)
  bytes.fill(0, ordinals, ordinals + found.length * 2)
  // Sorted by name, as the loader's binary search needs it: they were, and stay so.
  for (const [index, { name, address }] of kept.entries()) {
    bytes.writeUInt32LE(address, addresses + index * 4)
    bytes.writeUInt32LE(name, names + index * 4)
    bytes.writeUInt16LE(index, ordinals + index * 2)
  }
  for (const count of [20, 24]) bytes.writeUInt32LE(kept.length, table + count)
}
