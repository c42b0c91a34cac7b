// Linux. What a shared library asks of the system and offers to it (System V ABI, chapters 4 and 5; LSB, "Symbol Versioning").

const cpus = { 62: 'x64', 183: 'arm64' }
const sectionTypes = { symtab: 2, dynamic: 6, dynsym: 11, verneed: 0x6ffffffe, versym: 0x6fffffff }
const needed = 1n
const searchPaths = [15n, 29n]

export function readElf(bytes) {
  const u16 = (at) => bytes.readUInt16LE(at)
  const u32 = (at) => bytes.readUInt32LE(at)
  const u64 = (at) => Number(bytes.readBigUInt64LE(at))
  const sections = Array.from({ length: u16(60) }, (_, index) => {
    const at = u64(40) + index * u16(58)
    return { type: u32(at + 4), offset: u64(at + 24), size: u64(at + 32), link: u32(at + 40), info: u32(at + 44) }
  })
  const only = (type) => sections.find((section) => section.type === type)
  const text = (section, offset) => {
    const from = sections[section.link].offset + offset
    return bytes.toString('latin1', from, bytes.indexOf(0, from))
  }

  const libraries = []
  let hasSearchPath = false
  const dynamic = only(sectionTypes.dynamic)
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += 16) {
    const tag = bytes.readBigInt64LE(at)
    if (tag === needed) libraries.push(text(dynamic, u64(at + 8)))
    if (searchPaths.includes(tag)) hasSearchPath = true
  }

  // Version number → `GLIBC_2.17`, from which library.
  const versions = new Map()
  const verneed = only(sectionTypes.verneed)
  for (let left = verneed?.info ?? 0, at = verneed?.offset ?? 0; left > 0; left--, at += u32(at + 12)) {
    for (let entries = u16(at + 2), entry = at + u32(at + 8); entries > 0; entries--, entry += u32(entry + 12)) {
      versions.set(u16(entry + 6) & 0x7fff, text(verneed, u32(entry + 8)))
    }
  }

  const exports = []
  const imports = []
  const dynsym = only(sectionTypes.dynsym)
  const versym = only(sectionTypes.versym)
  for (let index = 1; index < dynsym.size / 24; index++) {
    const at = dynsym.offset + index * 24
    const name = text(dynsym, u32(at))
    const isWeak = bytes[at + 4] >> 4 === 2
    const version = versym && versions.get(u16(versym.offset + index * 2) & 0x7fff)
    if (u16(at + 6) !== 0) exports.push(name)
    else imports.push({ name, version, isWeak })
  }
  return {
    cpu: cpus[u16(18)],
    libraries,
    exports,
    imports,
    hasSearchPath,
    isStripped: only(sectionTypes.symtab) === undefined,
  }
}

/** The highest `2.17` among `GLIBC_2.17`s; undefined where none is asked for. */
export function highestGlibcOf(imports) {
  return imports
    .flatMap(({ version }) => /^GLIBC_([\d.]+)$/.exec(version ?? '')?.[1] ?? [])
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1)
}
