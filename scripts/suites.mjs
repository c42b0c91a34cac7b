// The suites of the tests. A suite is the test files that lie in its folders of test/, not in folders below them. The storms and the tests
// of the tools and of the release are in none: they test this machine alone.
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { root } from './setup.mjs'

export const suites = {
  mutex: ['mutex', 'package'],
  gate: ['gate', 'download'],
  faults: ['download/faults'],
}

/**
 * What `npm test` leaves to `npm run test:long`, as folders and files: the storms, the demo, whether storms and scripts can fail, the table
 * of faults, and what takes the longest of what seldom breaks.
 */
const long = [
  'storm',
  'tools',
  'release',
  'download/faults',
  'gate/backend-build.test.js',
  'gate/load-after-death.test.js',
  'gate/split-versions.test.js',
  'mutex/endable-flock.test.js',
  'mutex/teardown.test.js',
]

/** All test files, as they are found in out/test: `mutex/crash.test.js`. The sources say which, for out/ may hold older ones. */
export function testFiles() {
  return readdirSync(path.join(root, 'test'), { recursive: true })
    .filter((file) => file.endsWith('.test.ts'))
    .map((file) => file.replaceAll(path.sep, '/').replace(/\.ts$/, '.js'))
    .sort()
}

/** The test files that lie in one of the folders. */
export function testFilesIn(folders) {
  return testFiles().filter((file) => folders.includes(path.posix.dirname(file)))
}

const usesLlama =
  /from 'node-llama-cpp'|import\('node-llama-cpp'\)|withNodeLlamaCpp: true|\.(loadModel|load|getLlama|createContext)\(/

/** The test files of the gate that use node-llama-cpp. Some tests in them do without. */
export function llamaTestFiles() {
  return testFilesIn(suites.gate).filter((file) =>
    usesLlama.test(readFileSync(path.join(root, 'test', file.replace(/\.js$/, '.ts')), 'utf8')),
  )
}

/** Those of `npm test`, and those that it leaves to `npm run test:long`. */
export function testFilesByLength() {
  const isLong = (file) => long.includes(file) || long.includes(path.posix.dirname(file))
  const files = testFiles()
  const missing = long.filter((name) => !files.some((file) => file === name || path.posix.dirname(file) === name))
  if (missing.length > 0) throw new Error(`No such tests: ${missing.join(', ')}`)
  return { short: files.filter((file) => !isLong(file)), long: files.filter(isLong) }
}
