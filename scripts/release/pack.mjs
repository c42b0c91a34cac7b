// `npm run release:pack [-- --repository ADDRESS]`: makes the tarball that is published. It differs from that of
// `npm pack` in package.json, which has the repository's address and is not private, and in links, which are absolute
// where the package has no such file. All of it is made in a temporary folder, so that no file of the checkout changes,
// however this ends.
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { wrongContents } from '../pack-test/contents.mjs'
import { npm } from '../pack-test/npm.mjs'
import { findAddress } from './address.mjs'
import { brokenLinks, pagesOf, withAbsoluteLinks } from './links.mjs'

const { values } = parseArgs({
  options: {
    /** Where the repository is. Default: what the workflow says, else the remote `origin`. */
    repository: { type: 'string' },
    /** The checkout. */
    package: { type: 'string', default: fileURLToPath(new URL('../..', import.meta.url)) },
  },
})
const root = path.resolve(values.package)
const manifest = readJson(root, 'package.json')
const tag = `v${manifest.version}`
const tarball = path.join(root, `${manifest.name}-${manifest.version}.tgz`)
const work = mkdtempSync(path.join(tmpdir(), 'os-mutex-release-'))
const stage = path.join(work, 'package')
try {
  // Whoever is refused must not publish an older one by mistake.
  rmSync(tarball, { force: true })
  const address = findAddress({ root, given: values.repository })
  refuse('These files differ from the commit that the package would name. Commit or remove them', changes())
  const tracked = git('ls-files', '-z').split('\0').filter(Boolean)
  refuse('These links lead nowhere', brokenLinks(root, tracked))

  // Runs prepack, which refuses what is missing, altered or stale.
  const [planned] = JSON.parse(npm(['pack', '--dry-run', '--json'], root))
  const files = planned.files.map((file) => file.path)
  copy(files, address)
  refuse('These links would lead nowhere in the package', brokenLinks(stage, files))

  // The scripts have run, and are not in the folder.
  const [packed] = JSON.parse(npm(['pack', '--json', '--ignore-scripts', '--pack-destination', work], stage))
  refuse('This package must not be shipped', wrongContents(packed, { hostOnly: false }))
  copyFileSync(path.join(work, packed.filename), tarball)
  console.log(`${packed.filename}: ${(packed.size / 1e6).toFixed(2)} MB, ${packed.integrity}`)
  console.log(`of ${address.web}, with links to ${tag}`)
  const isTagged = git('tag', '--points-at', 'HEAD').split('\n').includes(tag)
  if (!isTagged) console.log(`This is a trial: the commit does not have the tag ${tag}.`)
} catch (error) {
  console.error(`\n${error.message}\n`)
  process.exitCode = 1
} finally {
  rmSync(work, { recursive: true, force: true })
}

function copy(files, address) {
  for (const file of files) {
    mkdirSync(path.dirname(path.join(stage, file)), { recursive: true })
    copyFileSync(path.join(root, file), path.join(stage, file))
  }
  const { private: _, ...shipped } = manifest
  write('package.json', `${JSON.stringify({ ...shipped, ...address.fields }, null, 2)}\n`)

  const addressOf = (file, kind) => {
    if (kind === 'image') return address.at('raw', tag, file)
    return address.at(statSync(path.join(root, file)).isDirectory() ? 'folder' : 'file', tag, file)
  }
  for (const page of pagesOf(files)) {
    // The registry shows the README, where nothing else of the package can be opened.
    const staysRelative = (file) => page !== 'README.md' && files.includes(file)
    const text = readFileSync(path.join(root, page), 'utf8')
    write(page, withAbsoluteLinks(page, text, { staysRelative, addressOf }))
  }
}

function write(file, text) {
  writeFileSync(path.join(stage, file), text)
}

function changes() {
  return git('status', '--porcelain').split('\n').filter(Boolean)
}

function git(...args) {
  const { status, stdout, error } = spawnSync('git', args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 26 })
  if (status !== 0)
    throw new Error(`A release is packed in a clone: git ${args[0]} failed${error ? ` (${error.message})` : ''}.`)
  return stdout
}

function refuse(what, problems) {
  if (problems.length > 0) throw new Error([`${what}:`, ...problems.map((problem) => `  ${problem}`)].join('\n'))
}

function readJson(folder, file) {
  return JSON.parse(readFileSync(path.join(folder, file), 'utf8'))
}
