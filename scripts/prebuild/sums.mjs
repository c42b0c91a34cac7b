// prebuilds/SHA256SUMS says what the shipped addons are and what they were made from. It is committed and the addons are not: anyone can
// build them and compare.
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { targets } from './targets.mjs'
import { lockedPackages, pins } from './toolchain.mjs'

const rebuild = 'Run: npm run prebuild:all'
const sumsFile = (root) => path.join(root, 'prebuilds/SHA256SUMS')
export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex')

/** One hash of everything that decides what the addons are. */
export function sourceHash(root) {
  const hash = createHash('sha256').update(JSON.stringify([pins, ...lockedPackages(root)]))
  const builders = ['compile', 'gyp', 'linux', 'targets', 'format/macho', 'format/pe'].map(
    (name) => `scripts/prebuild/${name}.mjs`,
  )
  const native = readdirSync(path.join(root, 'native'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, '/'))
  for (const file of ['binding.gyp', ...builders, ...native].sort()) {
    hash.update(`\0${file}\0`).update(readFileSync(path.join(root, file)))
  }
  return hash.digest('hex')
}

/** As `sha256sum -c` reads it, with the hash of the sources in a comment. */
function formatSums(sources, sums) {
  return `# made from ${sources}\n${[...sums].map(([file, sum]) => `${sum}  ${file}\n`).join('')}`
}

export function writeSums(root, sums) {
  writeFileSync(sumsFile(root), formatSums(sourceHash(root), sums))
}

export function readSums(root) {
  const text = existsSync(sumsFile(root)) ? readFileSync(sumsFile(root), 'utf8') : ''
  return {
    sources: /^# made from ([0-9a-f]{64})$/m.exec(text)?.[1],
    sums: new Map([...text.matchAll(/^([0-9a-f]{64}) {2}(.+)$/gm)].map(([, sum, file]) => [file, sum])),
  }
}

/** Why the addons in prebuilds/ must not be shipped. */
export function problemsOfPrebuilds(root) {
  const sources = problemOfSources(root)
  if (sources !== undefined && readSums(root).sources === undefined) return [sources]
  const problems = [sources, ...targets.map(({ file }) => problemOfFile(root, file))].filter(Boolean)
  const known = new Set(targets.map(({ file }) => path.join('prebuilds', file)))
  for (const entry of readdirSync(path.join(root, 'prebuilds'), { recursive: true })) {
    const file = path.join('prebuilds', entry)
    if (file.endsWith('.node') && !known.has(file))
      problems.push(`${file} is none of the addons that are shipped. Delete it`)
  }
  return problems
}

/** Why one file of prebuilds/ is not what these sources make, if so. */
export function problemOfPrebuild(root, file) {
  return problemOfSources(root) ?? problemOfFile(root, file)
}

function problemOfSources(root) {
  const { sources } = readSums(root)
  if (sources === undefined) return `prebuilds/SHA256SUMS is missing or damaged. ${rebuild}`
  if (sources === sourceHash(root)) return undefined
  return `prebuilds/ is stale: native/, binding.gyp or the toolchain has changed since it was built. ${rebuild}`
}

function problemOfFile(root, file) {
  const whole = path.join(root, 'prebuilds', file)
  if (!existsSync(whole)) return `prebuilds/${file} is missing. ${rebuild}`
  if (sha256(readFileSync(whole)) === readSums(root).sums.get(file)) return undefined
  return `prebuilds/${file} is not the file that prebuilds/SHA256SUMS tells of. ${rebuild}`
}
