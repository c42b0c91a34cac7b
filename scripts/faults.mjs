// `npm run test:faults [-- --seed=N --kills=N]`: brings every fault that it knows of on a download, over one connection and over
// several, and prints one table of how each ended. Fails when one did not end as it should, and when it ends before all of
// them were brought. Only a last line that begins with `FAULTS PASSED` says that it has passed. `npm test` has a shorter form.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root, setUp } from './setup.mjs'
import { suites, testFilesIn } from './suites.mjs'

const { values: options } = parseArgs({
  options: {
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    kills: { type: 'string', default: '50' },
  },
})
setUp()

const folder = mkdtempSync(path.join(tmpdir(), 'os-mutex-faults-'))
const [reports, log] = [path.join(folder, 'reports.jsonl'), path.join(folder, 'log.txt')]
writeFileSync(reports, '')
const files = testFilesIn(suites.faults)
// Without names `node --test` would choose files itself.
if (files.length === 0) throw new Error('There is no test file of faults')
console.log(`npm run test:faults -- --seed=${options.seed} --kills=${options.kills} kills at the same moments again`)
const reporters = [
  ...['--test-reporter=dot', '--test-reporter-destination=stdout'],
  ...['--test-reporter=spec', `--test-reporter-destination=${log}`],
]
// One file after the other: rows with a time limit are not to be held up by their neighbours.
const limits = ['--test-concurrency=1', '--test-timeout=1800000']
const env = {
  ...process.env,
  OS_MUTEX_FAULTS: 'all',
  OS_MUTEX_FAULT_TABLE: reports,
  OS_MUTEX_FAULT_SEED: options.seed,
  OS_MUTEX_FAULT_KILLS: options.kills,
}
const args = ['--test', ...limits, ...reporters, ...files.map((file) => `out/test/${file}`)]
const ending = await ended(spawn(process.execPath, args, { cwd: root, stdio: 'inherit', env }))

/** @typedef {import('../test/support/faults.ts').RowReport} RowReport */
const rows = new Map()
for (const line of readFileSync(reports, 'utf8').split('\n').slice(0, -1)) {
  /** @type {RowReport} */
  const report = JSON.parse(line)
  rows.set(`${report.file} ${report.name}`, report)
}
const all = [...rows.values()]
const failed = all.filter(({ begins, problem }) => begins || problem !== undefined)
if (ending !== 0 && existsSync(log)) console.log(readFileSync(log, 'utf8').split('failing tests:').at(-1))
console.log(`\n${table(all)}\n`)
for (const { name, problem } of failed) console.log(`NOT AS IT SHOULD BE: ${name}: ${problem ?? 'it did not end'}`)
rmSync(folder, { recursive: true })
console.log(`Items that no row guards: ${unguarded(all).join(', ') || 'none'}`)
const silent = files.filter((file) => !all.some((row) => row.file === path.posix.basename(file)))
for (const file of silent) console.log(`NOT AS IT SHOULD BE: ${file} has brought no fault`)
if (typeof ending === 'string') console.log(`THE FAULTS ENDED EARLY and prove nothing: ${ending}`)
const isGood = ending === 0 && failed.length === 0 && all.length > 0 && silent.length === 0
const figures = `${all.length} faults, ${failed.length} not as they should be; seed ${options.seed}`
console.log(`FAULTS ${isGood ? 'PASSED' : 'FAILED'}: ${figures}`)
process.exitCode = isGood ? 0 : 1

/** An exit code, or what ended the tests before their end. A signal that would end this script ends them first. */
function ended(child) {
  let received
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => {
      received ??= signal
      child.kill(signal)
    })
  }
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(`the tests could not be started: ${error.message}`))
    child.once('exit', (code, signal) => {
      const by = received ?? signal
      resolve(by === null ? code : `${by} ended the tests`)
    })
  })
}

/** Of the items that rows can guard: A1 to A3, B4 to B7, C8 and C9, D10 to D14, E15 to E21. @param {RowReport[]} reports */
function unguarded(reports) {
  const last = { A: 3, B: 7, C: 9, D: 14, E: 21 }
  let number = 0
  const items = Object.entries(last).flatMap(([letter, end]) => {
    const own = []
    while (number < end) own.push(`${letter}${++number}`)
    return own
  })
  return items.filter((item) => !reports.some(({ guards }) => guards.includes(item)))
}

/** @param {RowReport[]} reports */
function table(reports) {
  const head = ['fault', 'guards', 'as it should be', 'ended in', 'requests', 'ms']
  const body = reports.map(({ name, guards, begins, problem, got = '', requests = 0, ms = 0 }) => {
    const verdict = begins ? 'NO END' : problem === undefined ? 'yes' : 'NO'
    return [name, guards.join(' '), verdict, got, String(requests), String(ms)]
  })
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((cells) => cells[column].length)))
  const line = (cells) =>
    `| ${cells.map((cell, column) => (column < 4 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join(' | ')} |`
  const rule = widths.map((width, column) => (column < 4 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [line(head), `| ${rule.join(' | ')} |`, ...body.map(line)].join('\n')
}
