// `npm run test:sanitize [-- asan | tsan | leaks] [-- test files]`: the addon's tests with the sanitizers of the compiler built into the
// addon, their child processes too. Whatever a sanitizer says of our code fails the run.
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { buildSanitized, compileFaulty, compileOutside, libraryOf, stageFor } from './sanitize/build.mjs'
import { requireTool, root, setUp } from './setup.mjs'
import { testFilesIn } from './suites.mjs'

const scripts = path.join(root, 'scripts/sanitize')

/** Where a report is about us: the addon, or a file of its sources. */
const ours = new RegExp(`os_mutex|os-mutex|native/(${sourceNames().join('|')})`)

/** The package's other tests need a tree or a tool of their own, or run no native code. */
const testFiles = [...testFilesIn(['mutex']), 'package/addon.test.js', 'package/loader.test.js']

/** Test files that a sanitizer can't live in, each with the reason. */
const leftOut = {
  'mutex/endable-flock.test.js': 'compiles and runs a program of its own',
  'mutex/unwinder.test.js': 'preloads a library of its own',
  'mutex/full-disk.test.js': 'starts Node by a shell in a mount namespace, which takes the preloaded library away',
  'mutex/private-tmp.test.js': 'starts Node by a shell in a mount namespace, which takes the preloaded library away',
}
const leftOutOfTsan = {
  'mutex/descriptors.test.js': 'starts /bin/sh by its path, and libtsan crashes in it',
}

const kinds = {
  asan: {
    // The shared libubsan forgets its log_path beside libasan. The check of virtual tables opens a pipe to look whether memory can be
    // read, and a test has no descriptor free.
    flags: [
      ...['-fsanitize=address,undefined', '-fno-sanitize=vptr', '-fno-sanitize-recover=undefined'],
      '-static-libubsan',
    ],
    library: 'libasan.so',
    faults: ['overflow', 'wrap'],
    options: (log) => ({ ASAN_OPTIONS: `detect_leaks=0:log_path=${log}`, ...undefinedOptions(log) }),
    run: (...how) => runTests(leftOut, ...how),
  },
  tsan: {
    flags: ['-fsanitize=thread'],
    library: 'libtsan.so',
    faults: ['race'],
    // Node's own reports must not fail a test by its exit code; ours are read from the log.
    options: (log) => ({
      TSAN_OPTIONS: `exitcode=0:log_path=${log}:suppressions=${path.join(scripts, 'tsan.supp')}`,
    }),
    run: (...how) => runTests({ ...leftOut, ...leftOutOfTsan }, ...how),
  },
  leaks: {
    flags: ['-fsanitize=address'],
    library: 'libasan.so',
    faults: ['leak'],
    options: (log) => ({
      // Node frees little at its end. What it leaves has no frame of ours.
      ASAN_OPTIONS: `detect_leaks=1:log_path=${log}`,
      LSAN_OPTIONS: 'exitcode=0',
    }),
    run: runCycles,
  },
}

function undefinedOptions(log) {
  return { UBSAN_OPTIONS: `print_stacktrace=1:log_path=${log}` }
}

function sourceNames() {
  return readdirSync(path.join(root, 'native'), { recursive: true })
    .filter((name) => /\.(cc|h)$/.test(name))
    .map((name) => name.replaceAll('.', '\\.'))
}

const asked = process.argv.slice(2)
const kindsAsked = Object.keys(kinds).filter((kind) => asked.includes(kind))
const filesAsked = asked.filter((word) => kinds[word] === undefined)

if (process.platform !== 'linux') {
  console.error('The sanitizers run on Linux only')
  process.exit(1)
}
requireTool('g++', 'g++')
requireTool('gcc', 'gcc')
setUp()
let failed = false
for (const kind of kindsAsked.length > 0 ? kindsAsked : Object.keys(kinds)) {
  const startedAt = Date.now()
  const problems = await check(kind, kinds[kind])
  for (const problem of problems) console.error(`\nNOT AS IT SHOULD BE (${kind}): ${problem}`)
  console.log(`${kind}: ${problems.length} problems, ${((Date.now() - startedAt) / 1000).toFixed(0)} s`)
  failed ||= problems.length > 0
}
process.exitCode = failed ? 1 : 0

/** @returns {Promise<string[]>} what is wrong */
async function check(kind, { flags, library, faults, options, run }) {
  const preload = libraryOf(library)
  const stage = stageFor(kind)
  buildSanitized(stage, flags)
  const logs = path.join(stage, 'logs')
  mkdirSync(logs)
  chmodSync(logs, 0o1777) // tests start processes of a second user
  const faulty = compileFaulty(stage, flags)
  const silent = faults.filter((fault) => !tells(faulty, fault, options(path.join(logs, 'faulty')), logs))
  if (silent.length > 0) return silent.map((fault) => `the sanitizer says nothing of a planted ${fault}`)
  // A sanitizer's own memory grows with each thread.
  const env = { ...process.env, ...outside(stage), LD_PRELOAD: preload, OS_MUTEX_TEST_ANY_MEMORY: '1' }
  const problems = await run(stage, { ...env, ...options(path.join(logs, 'report')) })
  return [...problems, ...reportsIn(logs)]
}

/** Whether the sanitizer tells of a fault that a program of ours has on purpose. */
function tells(program, fault, options, logs) {
  spawnSync(program, [fault], { env: { ...process.env, ...options }, stdio: 'ignore' })
  const reports = readdirSync(logs)
  for (const report of reports) rmSync(path.join(logs, report))
  return reports.length > 0
}

function outside(stage) {
  return { PATH: `${compileOutside(stage)}:${process.env.PATH}`, OS_MUTEX_OUTSIDE_PATH: process.env.PATH }
}

/** Two at a time. A file that fails without a word of the sanitizer's may have been too slow, and runs once more, alone. */
async function runTests(unfit, stage, env) {
  const isAsked = (file) => filesAsked.length === 0 || filesAsked.includes(path.basename(file, '.test.js'))
  for (const [file, reason] of Object.entries(unfit)) if (isAsked(file)) console.log(`  LEFT OUT ${file}: it ${reason}`)
  const chosen = testFiles.filter((file) => isAsked(file) && unfit[file] === undefined)
  if (chosen.length === 0) return ['no test file has such a name']
  const waiting = [...chosen]
  const again = []
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift())
      if ((await runFile(stage, file, env)) !== undefined) again.push(file)
  }
  await Promise.all([work(), work()])
  const problems = []
  for (const file of again) {
    const said = await runFile(stage, file, env)
    if (said !== undefined) problems.push(`${file} failed twice:\n${said}`)
  }
  return problems
}

/** @returns {Promise<string | undefined>} what it said, if it failed */
async function runFile(stage, file, env) {
  const startedAt = Date.now()
  const { code, said } = await runNode(
    stage,
    ['--test', '--test-reporter=spec', '--test-timeout=200000', `out/test/${file}`],
    env,
  )
  console.log(`  ${code === 0 ? 'passed' : 'FAILED'} ${file} (${((Date.now() - startedAt) / 1000).toFixed(0)} s)`)
  return code === 0 ? undefined : said.slice(-4000)
}

/**
 * Twice at the same time: for LeakSanitizer, and with the checkout's own addon for the memory in use, since AddressSanitizer never forgets a
 * thread.
 */
async function runCycles(stage, env) {
  const program = 'out/test/sanitize/cycles.js'
  const [sanitized, plain] = await Promise.all([
    runNode(stage, [program, 'any-memory'], env),
    runNode(root, [program], process.env),
  ])
  console.log(`  with LeakSanitizer: ${sanitized.said.trim()}\n  without: ${plain.said.trim()}`)
  return sanitized.code === 0 && plain.code === 0 ? [] : ['something grows with the cycles']
}

function runNode(folder, args, env) {
  const child = spawn(process.execPath, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk))
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, said })))
}

/** Reports stand apart by a line of "=" signs, and leaks by an empty line. */
function reportsIn(logs) {
  const all = readdirSync(logs).flatMap((file) =>
    readFileSync(path.join(logs, file), 'utf8').split(/^={10,}$|\n\n(?=(?:Direct|Indirect) leak)/m),
  )
  const reports = all.filter((text) =>
    /WARNING: ThreadSanitizer|ERROR: AddressSanitizer|runtime error|leak of/.test(text),
  )
  const found = [...new Set(reports.filter((text) => ours.test(text)))]
  console.log(`  ${reports.length} reports, ${found.length} of them of our code`)
  return found
}
