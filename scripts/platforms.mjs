// `npm run test:platforms [-- words]`: runs the tests on other runtimes and platforms, and prints a table of what came out.
// A word is a part of a target's name, a suite (mutex, gate, faults, pack), or a part of a test file's path. See docs/platforms.md.
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { packFolder, prepare } from './pack-test/prepare.mjs'
import { runPrograms } from './pack-test/programs.mjs'
import { provideAddons } from './platforms/addons.mjs'
import { cache } from './platforms/cache.mjs'
import { launchers } from './platforms/launchers.mjs'
import { endAll, inOrder, runFiles } from './platforms/run-suite.mjs'
import { stage } from './platforms/stage.mjs'
import { table } from './platforms/table.mjs'
import { targets } from './platforms/targets.mjs'
import { targets as prebuilds } from './prebuild/targets.mjs'
import { root, setUp } from './setup.mjs'
import { suites, testFilesIn } from './suites.mjs'

// `pack` has no test files: the packed package is installed and used.
const names = [...Object.keys(suites), 'pack']
const words = process.argv.slice(2)
const isTarget = (word) => targets.some(({ name }) => name.includes(word))
const targetWords = words.filter(isTarget)
const suiteWords = words.filter((word) => names.includes(word))
const fileWords = words.filter((word) => !isTarget(word) && !names.includes(word))
const testFiles = testFilesIn(Object.values(suites).flat())
const unknown = fileWords.find((word) => !testFiles.some((file) => file.includes(word)))
if (unknown !== undefined) {
  console.error(
    `"${unknown}" is part of no target's name, no suite (${names.join(', ')}), and part of no test file's path.`,
  )
  console.error(`The targets: ${targets.map(({ name }) => name).join(', ')}`)
  process.exit(1)
}
const asked = suiteWords.length > 0 ? suiteWords : fileWords.length > 0 ? Object.keys(suites) : names
const wants = (suite) => asked.includes(suite)
const chosen = targets.filter(({ name, byHand }) =>
  byHand ? targetWords.includes(name) : targetWords.length === 0 || targetWords.some((word) => name.includes(word)),
)

const open = []
const rows = []
// The test files run in process groups of their own, which no terminal and no CI ends with this script.
process.on('exit', () => {
  endAll()
  for (const launcher of open) launcher.stop?.()
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    const done = rows.map(({ target, suite }) => `${target} ${suite}`).join(', ')
    console.error(`\nENDED EARLY by ${signal}: no result. Done were: ${done || 'none'}`)
    process.exit(1)
  })
}

setUp()
provideAddons(chosen.map(({ addon }) => addon))
if (wants('pack')) provideAddons(prebuilds.map(({ file }) => file))
for (const target of chosen) rows.push(...(await runTarget(target)))

const text = table(rows)
writeFileSync(path.join(cache(), 'table.md'), `${text}\n`)
for (const { target, results, repetitions, trouble } of rows) {
  if (trouble !== undefined) console.log(`\nFAILED ${target} could not be run: ${trouble}`)
  for (const { file, name, error } of results.filter(({ outcome }) => outcome === 'failed'))
    console.log(`\nFAILED ${target} ${file ?? ''}: ${name}\n${indented(error)}`)
  for (const { file, error } of repetitions)
    console.log(`\nRUN AGAIN ${target} ${file}, which was cut off the first time\n${indented(error)}`)
}
console.log(`\n${text}`)
const count = (wanted) => rows.flatMap(({ results }) => results).filter(({ outcome }) => outcome === wanted).length
const troubles = rows.filter(({ trouble }) => trouble !== undefined).length
console.log(`\n${count('passed')} passed, ${count('failed') + troubles} failed, ${count('skipped')} skipped`)
process.exitCode = count('passed') > 0 && count('failed') + troubles === 0 ? 0 : 1

function indented(text) {
  return text.slice(0, 4000).replace(/^/gm, '    ')
}

async function runTarget(target) {
  const wanted = target.suites.filter(wants)
  let launcher
  let folder
  try {
    launcher = await launchers[target.launcher](target)
    open.push(launcher)
    folder = stage(target)
  } catch (error) {
    const nothing = { results: [], repetitions: [], trouble: error.stack, seconds: 0 }
    return wanted.map((suite) => ({ target: target.name, suite, ...nothing }))
  }
  const rows = []
  for (const suite of wanted) {
    console.error(`${target.name}: ${suite}`)
    const startedAt = performance.now()
    const row = { target: target.name, suite, results: [], repetitions: [] }
    try {
      if (suite === 'pack') row.results = await runPack(launcher)
      else Object.assign(row, await runSuite(target, launcher, folder, suite))
    } catch (error) {
      row.trouble = error.stack
    }
    row.seconds = (performance.now() - startedAt) / 1000
    if (row.trouble !== undefined || row.results.length > 0) rows.push(row)
  }
  return rows
}

async function runSuite(target, launcher, folder, suite) {
  const isWanted = (file) => fileWords.length === 0 || fileWords.some((word) => file.includes(word))
  return runFiles(target, launcher, folder, inOrder(testFilesIn(suites[suite])).filter(isWanted))
}

async function runPack({ command, env }) {
  const modules = path.join(root, 'node_modules')
  const { project, wrongs } = prepare({ packageDirectory: root, workDirectory: packFolder, modules })
  if (wrongs.length > 0) throw new Error(wrongs.join('\n'))
  const results = await runPrograms(project, command, { env })
  return results.map(({ name, passed, output }) => ({ name, outcome: passed ? 'passed' : 'failed', error: output }))
}
