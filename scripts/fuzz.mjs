// `npm run test:fuzz [-- --seconds=N --seed=N --target=NAME]`: feeds the readers of files that anybody may write with changed and random
// bytes, for N seconds each. The reader of owner records runs under libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer, the
// readers of GGUF in Node. What breaks one of them is written to a file.
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { root, setUp } from './setup.mjs'

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(1 + (Date.now() % 1_000_000)) },
    target: { type: 'string' },
  },
})
const { seconds, seed } = options
setUp()

/** @typedef {{ executions: number, perSecond: number, crash?: string } | { trouble: string }} Outcome */
/** @type {Record<string, () => Promise<Outcome>>} */
const targets = { 'owner-record': fuzzOwnerRecord, gguf: fuzzGguf }
const chosen = Object.entries(targets).filter(([name]) => (options.target ?? name) === name)
if (chosen.length === 0) throw new Error(`--target is one of ${Object.keys(targets).join(', ')}`)

const crashes = mkdtempSync(path.join(tmpdir(), 'os-mutex-fuzz-'))
console.log(`npm run test:fuzz -- --seconds=${seconds} --seed=${seed} begins with the same bytes again`)
let isGood = true
for (const [name, fuzz] of chosen) {
  const outcome = await fuzz()
  const { executions, perSecond, crash, trouble } = outcome
  if (trouble !== undefined) console.log(`${name}: could not be run. ${trouble}`)
  else
    console.log(
      `${name}: ${executions} executions, ${perSecond} per second, ${crash === undefined ? 'no crash' : crash}`,
    )
  isGood &&= trouble === undefined && crash === undefined
}
if (readdirSync(crashes).length === 0) rmdirSync(crashes)
process.exitCode = isGood ? 0 : 1

async function fuzzOwnerRecord() {
  const folder = path.join(root, 'out/fuzz')
  const program = path.join(folder, 'owner-record')
  rmSync(folder, { recursive: true, force: true })
  const corpus = await ownerRecordCorpus(path.join(folder, 'corpus'))
  const checks = ['-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all']
  const sources = ['test/fuzz/owner-record.cc', 'native/owner_record.cc']
  const compile = [
    '-std=c++17',
    '-g',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    ...checks,
    '-Inative',
    ...sources,
    '-o',
    program,
  ]
  const compiled = spawnSync('clang++', compile, { cwd: root, encoding: 'utf8' })
  if (compiled.status !== 0) {
    const packages =
      'libFuzzer is needed. On Debian or Ubuntu: apt-get install clang libclang-rt-14-dev (or as your clang is numbered)'
    return { trouble: `${compiled.error?.message ?? compiled.stderr}\n${packages}` }
  }
  const limits = [`-max_total_time=${seconds}`, `-seed=${seed}`, '-max_len=4400', '-timeout=5', '-rss_limit_mb=512']
  const args = [...limits, '-print_final_stats=1', `-artifact_prefix=${crashes}/owner-record-`, corpus]
  const { status, stderr } = spawnSync(program, args, { encoding: 'utf8', maxBuffer: 2 ** 28 })
  const stat = (name) => Number(new RegExp(`stat::${name}:\\s+(\\d+)`).exec(stderr)?.[1] ?? 0)
  const outcome = { executions: stat('number_of_executed_units'), perSecond: stat('average_exec_per_sec') }
  if (status === 0) return outcome
  const [, file = 'no file'] = /Test unit written to (.*)/.exec(stderr) ?? []
  return { ...outcome, crash: `A CRASH: ${file} (to see it again: ${program} ${file})\n${stderr.slice(-3000)}` }
}

/** Whole records, which random bytes would hardly become: their checksums are right. */
async function ownerRecordCorpus(folder) {
  const { lockFileBytes } = await import(new URL('../out/test/support/lock-file-bytes.js', import.meta.url).href)
  mkdirSync(folder, { recursive: true })
  const records = [
    '',
    '{}',
    '{"pid":1}',
    `{"pid":1,"purpose":"${'x'.repeat(256)}"}`,
    ' '.repeat(4069),
    ' '.repeat(4070),
  ]
  for (const state of ['held', 'free'])
    for (const [index, json] of records.entries())
      writeFileSync(path.join(folder, `${state}-${index}`), lockFileBytes(state, json))
  return folder
}

async function fuzzGguf() {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['out/test/fuzz/gguf.js', seconds, seed, crashes], {
    cwd: root,
    encoding: 'utf8',
  })
  if (status !== 0) return { trouble: stderr }
  /** @type {import('../test/fuzz/gguf.ts').FuzzReport} */
  const { executions, seconds: took, verdicts, crash } = JSON.parse(stdout)
  const outcome = {
    executions: `${verdicts} kinds of verdicts in ${executions}`,
    perSecond: Math.round(executions / took),
  }
  return crash === undefined ? outcome : { ...outcome, crash: `A CRASH: ${crash.path}\n${crash.error}` }
}
