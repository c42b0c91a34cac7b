// `npm run test:faults [-- --seed=N --kills=N]`: brings every fault that it knows of on a download, over one connection and over
// several, and prints one table of how each ended. Fails when one did not end as it should. `npm test` has a shorter form of it.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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
const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit', env })

/** @typedef {import('../test/support/faults.ts').RowReport} RowReport */
const rows = new Map()
for (const line of readFileSync(reports, 'utf8').split('\n').slice(0, -1)) {
  /** @type {RowReport} */
  const report = JSON.parse(line)
  rows.set(`${report.file} ${report.name}`, report)
}
const all = [...rows.values()]
const failed = all.filter(({ begins, problem }) => begins || problem !== undefined)
if (status !== 0) console.log(readFileSync(log, 'utf8').split('failing tests:').at(-1))
console.log(`\n${table(all)}\n`)
for (const { name, problem } of failed) console.log(`NOT AS IT SHOULD BE: ${name}: ${problem ?? 'it did not end'}`)
console.log(`${all.length} faults, ${failed.length} not as they should be; seed ${options.seed}`)
rmSync(folder, { recursive: true })
process.exitCode = status === 0 && failed.length === 0 && all.length > 0 ? 0 : 1

/** @param {RowReport[]} reports */
function table(reports) {
  const head = ['fault', 'as it should be', 'ended in', 'requests', 'ms']
  const body = reports.map(({ name, begins, problem, got = '', requests = 0, ms = 0 }) => {
    const verdict = begins ? 'NO END' : problem === undefined ? 'yes' : 'NO'
    return [name, verdict, got, String(requests), String(ms)]
  })
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((cells) => cells[column].length)))
  const line = (cells) =>
    `| ${cells.map((cell, column) => (column < 3 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join(' | ')} |`
  const rule = widths.map((width, column) => (column < 3 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`))
  return [line(head), `| ${rule.join(' | ')} |`, ...body.map(line)].join('\n')
}
