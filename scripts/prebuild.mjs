// `npm run prebuild:all [-- --check] [-- part of a file's name …]`: builds the addons of all platforms into prebuilds/.
//   --check  builds into a scratch folder and compares with prebuilds/SHA256SUMS; changes nothing.
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { compile } from './prebuild/compile.mjs'
import { joinSlices, settleMachO } from './prebuild/format/macho.mjs'
import { settlePe } from './prebuild/format/pe.mjs'
import { inspect } from './prebuild/inspect.mjs'
import { prebuildify } from './prebuild/linux.mjs'
import { readSums, sha256, sourceHash, writeSums } from './prebuild/sums.mjs'
import { entryPoints, targets } from './prebuild/targets.mjs'
import { fetchToolchain } from './prebuild/toolchain.mjs'

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))
// Not in node_modules, which `npm ci` deletes: a compiler's cold start takes minutes.
const cache = path.join(root, '.cache/prebuild')
const { values, positionals } = parseArgs({ options: { check: { type: 'boolean' } }, allowPositionals: true })

try {
  main()
} catch (error) {
  console.error(`\n${error.message}`)
  process.exitCode = 1
}

function main() {
  const wanted = targets.filter(
    ({ file }) => positionals.length === 0 || positionals.some((part) => file.includes(part)),
  )
  if (wanted.length === 0) throw new Error(`No file's name has ${positionals.join(' or ')} in it`)
  mkdirSync(cache, { recursive: true })
  const toolchain = fetchToolchain(root, cache)
  const scratch = mkdtempSync(path.join(cache, '.build-'))
  try {
    const built = wanted.map((target) => ({ target, ...build(target, toolchain, scratch) }))
    if (values.check) compare(built)
    else keep(built, scratch)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function build(target, toolchain, scratch) {
  const started = performance.now()
  const slices = target.slices.map((slice) => buildSlice(target, slice, toolchain, path.join(scratch, slice.triple)))
  const bytes = target.os === 'mac' ? joinSlices(slices) : slices[0]
  const { summary, problems } = inspect(bytes, target, [root, cache])
  const seconds = ((performance.now() - started) / 1000).toFixed(0)
  console.log(`${target.file}  ${(bytes.length / 1000).toFixed(0)} kB  ${seconds} s\n  ${summary}`)
  if (problems.length > 0) throw new Error(`${target.file}\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
  return { bytes, sum: sha256(bytes) }
}

function buildSlice(target, { triple }, toolchain, folder) {
  mkdirSync(folder)
  const how = { root, toolchain, cache: path.join(cache, 'zig-2'), scratch: folder }
  if (target.os === 'linux') return readFileSync(prebuildify({ ...how, target }))
  const output = path.join(folder, 'os-mutex.node')
  compile({ ...how, os: target.os, triple, output })
  const bytes = readFileSync(output)
  if (target.os === 'win') settlePe(bytes, entryPoints)
  else settleMachO(bytes, entryPoints)
  return bytes
}

function compare(built) {
  const { sources, sums } = readSums(root)
  const differing = built.filter(({ target, sum }) => sums.get(target.file) !== sum).map(({ target }) => target.file)
  if (sources === sourceHash(root) && differing.length === 0) return console.log('\nAll as prebuilds/SHA256SUMS says.')
  const what = differing.length > 0 ? `${differing.join(', ')}: not as prebuilds/SHA256SUMS says` : 'all the same'
  const why = sources === sourceHash(root) ? 'from the same sources' : 'its sources have changed since'
  throw new Error(`${what}; ${why}. To write it anew: npm run prebuild:all`)
}

function keep(built, scratch) {
  for (const { target, bytes } of built) {
    const file = path.join(root, 'prebuilds', target.file)
    mkdirSync(path.dirname(file), { recursive: true })
    // By a rename: the file may be in use, and writing into a mapped library kills its users.
    const whole = path.join(scratch, 'whole.node')
    writeFileSync(whole, bytes, { mode: 0o755 })
    renameSync(whole, file)
  }
  if (positionals.length > 0) return console.log('\nprebuilds/SHA256SUMS is written only when all are built.')
  writeSums(root, new Map(built.map(({ target, sum }) => [target.file, sum])))
  console.log('\nprebuilds/SHA256SUMS is written.')
}
