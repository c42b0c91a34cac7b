// The suites of the tests. A suite is the test files that lie in its folders of test/, not in folders below them. The storms and the tests
// of the tools are in none: they test this machine alone.
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { root } from './setup.mjs'

export const suites = {
  mutex: ['mutex', 'package'],
  gate: ['gate', 'download'],
  faults: ['download/faults'],
}

/** What `npm test` leaves to `npm run test:long`: the storms, the demo, and whether storms and scripts can fail. */
export const long = ['storm', 'tools']

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
