// `npm run test:llama-versions [-- words]`: the tests that use node-llama-cpp, with several versions of it, each in .cache/llama/<version>.
// A word is a version (or `newest`) or a part of a test file's path. Ends with 1 unless all that ran has passed with every version.
import { installVersion, newestVersion } from './llama-versions/install.mjs'
import { stageVersion } from './llama-versions/stage.mjs'
import { endAll, inOrder, runFiles } from './platforms/run-suite.mjs'
import { table } from './platforms/table.mjs'
import { setUp } from './setup.mjs'
import { llamaTestFiles } from './suites.mjs'

/** The first of the peer range, some that people have, and what they get today. */
const usual = ['3.10.0', '3.14.5', '3.19.1', 'newest']

const words = process.argv.slice(2)
const isVersion = (word) => word === 'newest' || /^\d+\.\d+\.\d+/.test(word)
const fileWords = words.filter((word) => !isVersion(word))
const asked = words.some(isVersion) ? words.filter(isVersion) : usual
const unknown = fileWords.find((word) => !llamaTestFiles().some((file) => file.includes(word)))
if (unknown !== undefined) {
  console.error(`"${unknown}" is no version and part of no test file's path: ${llamaTestFiles().join(', ')}`)
  process.exit(1)
}
const files = llamaTestFiles().filter((file) => fileWords.length === 0 || fileWords.some((word) => file.includes(word)))

// The test files run in process groups of their own, which no terminal and no CI ends with this script.
process.on('exit', endAll)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    console.error(`\nENDED EARLY by ${signal}: no result`)
    process.exit(1)
  })
}

setUp()
const versions = [...new Set(asked.map((version) => (version === 'newest' ? newestVersion() : version)))]
const folders = versions.map(installVersion)
const rows = []
for (const [index, version] of versions.entries()) {
  console.error(`node-llama-cpp ${version}`)
  const startedAt = performance.now()
  const stage = stageVersion(version, folders[index])
  const launcher = { command: [process.execPath], env: process.env }
  const { results } = await runFiles({ name: version }, launcher, stage, inOrder(files))
  rows.push({ target: version, suite: 'llama', results, seconds: (performance.now() - startedAt) / 1000 })
}

for (const { target, results } of rows) {
  for (const { file, name, error } of results.filter(({ outcome }) => outcome === 'failed'))
    console.log(`\nFAILED node-llama-cpp ${target}, ${file}: ${name}\n${error.slice(0, 4000).replace(/^/gm, '    ')}`)
}
console.log(`\n${table(rows)}`)
const count = (row, wanted) => row.results.filter(({ outcome }) => outcome === wanted).length
process.exitCode = rows.every((row) => count(row, 'passed') > 0 && count(row, 'failed') === 0) ? 0 : 1
