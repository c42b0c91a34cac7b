// What each prebuilt addon may need of a system and show to it. A file that says otherwise is not shipped.
import { highestGlibcOf, readElf } from './format/elf.mjs'
import { readMachO, splitSlices } from './format/macho.mjs'
import { readPe } from './format/pe.mjs'
import { entryPoints, highestGlibc } from './targets.mjs'

const isNodeApi = (name) => /^_?(napi|node_api)_\w+$/.test(name)
const isNewer = (version, limit) => version.localeCompare(limit, 'en', { numeric: true }) > 0

const inspectors = {
  *linux(bytes, target, summary) {
    const elf = readElf(bytes)
    const glibc = highestGlibcOf(elf.imports)
    summary.push(`glibc ${glibc ?? '-'}`)
    yield* checkCommon(elf, target, target.slices[0], summary)
    if (glibc !== undefined && isNewer(glibc, highestGlibc)) yield `needs glibc ${glibc}, allowed is ${highestGlibc}`
    const isGlibc = target.file.endsWith('.glibc.node')
    for (const { name, version, isWeak } of elf.imports) {
      // All of glibc's symbols have versions and none of musl's: others are of a library that is not there.
      if (isWeak || isNodeApi(name) || (version !== undefined) === isGlibc) continue
      yield `needs ${name}${version ? ` of version ${version}` : ', which no allowed library has'}`
    }
    if (elf.hasSearchPath) yield 'looks for libraries in a path of the building machine (RUNPATH)'
    if (!elf.isStripped) yield 'is not stripped'
  },

  *win(bytes, target, summary) {
    const pe = readPe(bytes)
    yield* checkCommon(pe, target, target.slices[0], summary)
    if (pe.timestamp !== 0) yield 'holds the time of its building'
    if (pe.hasDebugInfo) yield 'is not stripped'
    for (const protection of pe.unprotected) yield `is not ${protection}`
  },

  *mac(bytes, target, summary) {
    const slices = splitSlices(bytes)
    if (slices.length !== target.slices.length) yield `has ${slices.length} slices, not ${target.slices.length}`
    for (const [index, slice] of slices.entries()) {
      const dylib = readMachO(slice)
      summary.push(`${dylib.cpu}: macOS ${dylib.minimumSystem}, signature ${dylib.signature}`)
      yield* checkCommon(dylib, target, target.slices[index], summary)
      for (const name of dylib.named) if (!entryPoints.includes(name)) yield `names ${name}`
      if (isNewer(dylib.minimumSystem, '11.0')) yield `needs macOS ${dylib.minimumSystem}`
      // Apple's own processors run nothing unsigned.
      const isRefused = dylib.signature === 'broken' || (dylib.cpu === 'arm64' && dylib.signature === 'none')
      if (isRefused) yield `has a signature that is ${dylib.signature} for ${dylib.cpu}`
    }
  },
}

function* checkCommon(found, target, slice, summary) {
  summary.push(`libraries ${found.libraries.join(' ')}`)
  if (found.cpu !== slice.cpu) yield `is for ${found.cpu ?? 'another processor'}, not for ${slice.cpu}`
  for (const name of found.exports) if (!entryPoints.includes(name)) yield `exports ${name}`
  for (const name of entryPoints) if (!found.exports.includes(name)) yield `does not export ${name}`
  for (const name of found.libraries) {
    const isAllowed = target.libraries.some((one) => (typeof one === 'string' ? one === name : one.test(name)))
    if (!isAllowed) yield `needs the library ${name}`
  }
}

/**
 * What a prebuilt addon is, in words, and what is wrong with it. `paths` are folders of the building machine: none may be named in it.
 */
export function inspect(bytes, target, paths = []) {
  const summary = []
  const problems = []
  try {
    problems.push(...inspectors[target.os](bytes, target, summary))
  } catch (error) {
    problems.push(`can't be read as a library for ${target.file}: ${error.message}`)
  }
  for (const folder of paths) if (bytes.includes(folder)) problems.push(`holds the path ${folder}`)
  return { summary: summary.join('; '), problems }
}
