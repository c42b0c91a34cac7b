// `npm run check:protocol [-- model]`: has spin look at every interleaving of the models in docs/protocol. Then it breaks each model in
// the ways listed here, and spin must find every one: a model that can't fail proves nothing.
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import path from 'node:path'
import { requireTool, root } from './setup.mjs'

const folder = path.join(root, 'docs/protocol')

/**
 * `safety`: assertions and deadlocks. `liveness`: the model's LTL formula, under weak fairness. A mutant is looked for in the run that
 * its kind of fault shows in.
 * @typedef {{ kind: 'safety' | 'liveness', defines: Record<string, number>, leastStates: number }} Run
 * @typedef {{ runs: Run[], mutants: Record<string, { run: number, means: string }> }} Model
 * @type {Record<string, Model>}
 */
const models = {
  flock: {
    runs: [
      { kind: 'safety', defines: { ACQUIRERS: 2, ROUNDS: 2, VANISHINGS: 2, KILLS: 1 }, leastStates: 1_000_000 },
      { kind: 'safety', defines: { ACQUIRERS: 3, ROUNDS: 1, VANISHINGS: 1, KILLS: 0 }, leastStates: 300_000 },
      { kind: 'safety', defines: { ACQUIRERS: 3, ROUNDS: 2, VANISHINGS: 0, KILLS: 1 }, leastStates: 1_000_000 },
      { kind: 'liveness', defines: { ACQUIRERS: 2, ROUNDS: 2, VANISHINGS: 1, KILLS: 1 }, leastStates: 500_000 },
    ],
    mutants: {
      NO_NAME_CHECK: { run: 0, means: 'no look whether the name still leads to the locked file' },
      REPLACING_RENAME: { run: 0, means: 'a new file replaces the one that somebody else has just made' },
      CANCEL_KEEPS_LOCK: { run: 0, means: 'a wait that is called off keeps a lock that came in that moment' },
      MARK_AFTER_UNLOCK: { run: 0, means: 'the release marks the file free after the unlock' },
      KEEP_MARK: { run: 0, means: 'the release leaves the mark' },
      NO_MARK: { run: 0, means: 'the owner writes no mark' },
      MARK_AT_GRANT: { run: 0, means: 'the mark is written before the owner has heard of its lock' },
      GIVE_BACK_CLEAN: {
        run: 0,
        means: 'a grant that nobody heard of is given back clean, although the mutex was abandoned',
      },
      GIVE_BACK_MARKED: { run: 0, means: 'a grant that nobody heard of leaves its own mark when it is given back' },
      WAIT_ON: { run: 3, means: 'a waiter that finds its file gone waits for the same file again' },
    },
  },
  line: {
    runs: [
      { kind: 'safety', defines: { THREADS: 2, ROUNDS: 1, RIVALS: 1, VANISHINGS: 1 }, leastStates: 1_000_000 },
      { kind: 'safety', defines: { THREADS: 2, ROUNDS: 2, RIVALS: 1, VANISHINGS: 0 }, leastStates: 1_000_000 },
      {
        kind: 'safety',
        defines: { THREADS: 2, ROUNDS: 1, RIVALS: 1, VANISHINGS: 0, RESTS: 1 },
        leastStates: 1_000_000,
      },
      { kind: 'liveness', defines: { THREADS: 2, ROUNDS: 1, RIVALS: 1, VANISHINGS: 0 }, leastStates: 200_000 },
    ],
    mutants: {
      CANCEL_LOOKS_NOT_AGAIN: { run: 0, means: 'who leaves the line does not look whether the wait has ended' },
      UNLOCK_LOOKS_NOT_AGAIN: { run: 0, means: 'a release does not look whether the wait has ended' },
      NEXT_UNNAMED: { run: 0, means: 'the new first in line is not named' },
      RING_TOO_EARLY: { run: 0, means: 'the bell rings before the wait counts as ended' },
      RING_UNDER_LOCK: { run: 0, means: 'the bell waits for the lock of whoever takes the outcome' },
      FINISH_WAITS_NOT: { run: 0, means: 'the outcome is taken before the file was looked at' },
      EXPIRY_UNNOTICED: { run: 0, means: 'a wait is given to a thread that has ended for idleness' },
      CANCEL_KEEPS_LOCK: { run: 0, means: 'a wait that is called off keeps a lock that came in that moment' },
      GIVE_BACK_NOT: { run: 1, means: 'a grant whose thread has no JavaScript any more is kept' },
      RELEASE_TWICE: {
        run: 1,
        means: 'a hold that is over is released again, and takes the mutex from the next owner',
      },
      REST_WAITING: { run: 2, means: 'the descriptors are closed while one of them waits' },
      REST_HELD: { run: 2, means: 'the descriptors are closed while one of them has the lock' },
      REST_UNLOCKED: { run: 2, means: 'whether they are needed is asked without the lock' },
      REST_LOCKS: { run: 2, means: 'who has locked one mutex waits for the lock of another' },
    },
  },
  courtesy: {
    runs: [
      { kind: 'safety', defines: { ROUNDS: 2, STOPS: 2 }, leastStates: 200_000 },
      { kind: 'liveness', defines: { ROUNDS: 2, STOPS: 1 }, leastStates: 200_000 },
    ],
    mutants: {
      NO_COURTESY: { run: 1, means: 'nobody steps aside' },
      TAKE_BEFORE_LOOK: { run: 1, means: 'who steps aside takes the lock each time only to give it back' },
      WAIT_AT_ONCE: { run: 1, means: 'who steps aside takes the lock by a wait' },
      PATIENCE_UNENDING: { run: 1, means: 'patience never ends: a stopped waiter blocks the loop' },
      PATIENCE_STAYS_SHORT: { run: 1, means: 'patience never grows: a slow waiter is never served' },
      REST_UNENDING: { run: 1, means: 'nobody steps aside any more after it was in vain once' },
      NO_REST: { run: 0, means: 'who has stepped aside in vain does so again at once' },
      CALLED_OFF_FORGETS: { run: 0, means: 'a wait that is called off forgets that its process steps aside' },
      LEAVING_UNCHARGED: { run: 0, means: 'who leaves the queue before a patience ends is not charged for it' },
      CLEAR_UNLOOKED: { run: 0, means: 'the queue mark is cleared without looking who waits' },
      MARK_FIRST: { run: 0, means: 'a waiter marks the file before it has its place' },
    },
  },
  probe: {
    runs: [
      { kind: 'safety', defines: { PROBES: 3, ROUNDS: 2 }, leastStates: 10_000 },
      { kind: 'liveness', defines: { PROBES: 3, ROUNDS: 2 }, leastStates: 10_000 },
    ],
    mutants: {
      NO_RETRY: { run: 0, means: 'a try that meets a probe reports an owner' },
      ONE_RETRY: { run: 0, means: 'a try that meets two probes reports an owner' },
    },
  },
  partial: {
    runs: [
      { kind: 'safety', defines: { HOSTS: 1, PROCESSES: 2, KILLS: 2 }, leastStates: 200_000 },
      { kind: 'safety', defines: { HOSTS: 1, PROCESSES: 3, KILLS: 0, IDS: 3 }, leastStates: 500_000 },
      { kind: 'safety', defines: { HOSTS: 2, PROCESSES: 2, SLEEPS: 1, KILLS: 1 }, leastStates: 500_000 },
      { kind: 'safety', defines: { LOCKS: 0, PROCESSES: 2, SLEEPS: 1, KILLS: 1 }, leastStates: 500_000 },
    ],
    mutants: {
      NO_NAME_CHECK: { run: 0, means: 'no look whether the name still leads to the locked record' },
      TAKE_UNLOCKED: { run: 0, means: 'a leftover is taken without its lock' },
      RECORD_FIRST: { run: 0, means: 'the record is removed before the data' },
      RENAME_FIRST: { run: 0, means: 'the data are renamed before there is a record for them' },
      OLD_RECORD_FIRST: { run: 0, means: 'the old record is removed before the data are renamed' },
      MAP_FIRST: { run: 0, means: 'the map is written before the bytes' },
      STILL_LEFT_OUT: { run: 2, means: "another machine's partial is taken as soon as its lock can be had" },
      OLD_BOOT_ID: { run: 2, means: 'who takes a leftover leaves the boot id of its first owner in the record' },
      TAKE_BY_LINK: { run: 2, means: 'the data have both names for a moment, so that two can take them' },
      NO_CHECK_AFTER_RENAME: { run: 2, means: 'no look after the rename whether the new record is still there' },
      NO_CHECK_BEFORE_MAP: { run: 3, means: 'no look before a map whether record and data are still its own' },
      BEGIN_AGAIN_IN_PLACE: { run: 3, means: 'another version is written into the same data' },
      CUT_ANYHOW: { run: 2, means: 'who gives a partial back cuts it, though it may be published by now' },
      CUT_AFTER_LOOK: { run: 3, means: 'the same, after a look: the six hours may come between' },
    },
  },
  owner_thread: {
    runs: [
      { kind: 'safety', defines: { ROUNDS: 2, KILLS: 1 }, leastStates: 1_000_000 },
      { kind: 'liveness', defines: { ROUNDS: 1, KILLS: 1 }, leastStates: 300_000 },
    ],
    mutants: {
      IDLE_OWNER: { run: 0, means: 'a thread ends for idleness while it owns' },
      EXPIRY_UNNOTICED: { run: 0, means: 'an order is given to a thread that has ended for idleness' },
      ANSWER_FIRST: { run: 0, means: 'the thread answers before the wait counts as ended' },
      RING_UNDER_LOCK: { run: 0, means: 'the bell waits for the lock of whoever gives orders' },
      CANCEL_UNANSWERED: { run: 0, means: 'a wait is called off without waiting for the answer' },
      CANCEL_UNLOCKS_ABANDONED: { run: 0, means: 'an abandoned mutex is given back by a clean release' },
      GIVE_BACK_CLEAN: {
        run: 0,
        means: 'a grant that nobody heard of is given back clean, although the mutex was abandoned',
      },
      CANCEL_KEEPS_LOCK: { run: 0, means: 'a wait that is called off keeps a mutex that came in that moment' },
    },
  },
}

requireTool('spin', 'spin', '-V')
requireTool('gcc', 'gcc')

const asked = process.argv[2]
if (asked !== undefined && models[asked] === undefined) {
  console.error(`There is no model "${asked}". There are: ${Object.keys(models).join(', ')}`)
  process.exit(1)
}
const scratches = mkdtempSync(path.join(tmpdir(), 'os-mutex-protocol-'))
const problems = []
const startedAt = Date.now()
try {
  for (const name of asked === undefined ? Object.keys(models) : [asked]) await checkModel(name, models[name])
} finally {
  rmSync(scratches, { recursive: true, force: true })
}
console.log(`\n${((Date.now() - startedAt) / 1000).toFixed(0)} s on ${availableParallelism()} processors`)
for (const problem of problems) console.error(`NOT AS IT SHOULD BE: ${problem}`)
process.exitCode = problems.length === 0 ? 0 : 1

async function checkModel(name, { runs, mutants }) {
  const text = readFileSync(path.join(folder, `${name}.pml`), 'utf8')
  console.log(`\n${name}.pml`)
  checkCitations(name, text)
  checkMutantsAreListed(name, text, mutants)
  const asItIs = runs.map((run) => ({ run }))
  const broken = Object.entries(mutants).map(([mutant, { run, means }]) => ({ run: runs[run], mutant, means }))
  const waiting = [...asItIs, ...broken].map((task) => ({ ...task, name }))
  const all = [...waiting]
  const work = async () => {
    for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) task.result = await verify(task)
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  all.forEach(judge)
}

function judge({ name, run, mutant, means, result }) {
  const what = mutant === undefined ? `${run.kind}, ${sizesOf(run)}` : `mutant: ${means}`
  const holds = result.errors === 0
  const verdict = mutant === undefined ? (holds ? 'holds' : 'FAILS') : holds ? 'NOT FOUND' : 'found'
  const size = `${result.states.toLocaleString('en')} states, depth ${result.depth}, ${result.seconds.toFixed(1)} s`
  console.log(`  ${verdict.padEnd(9)} ${what} (${size})`)
  if (mutant !== undefined && holds) problems.push(`${name}: spin does not find the mutant ${mutant}`)
  if (mutant === undefined && !holds) problems.push(`${name}, ${what}: ${result.said}`)
  if (mutant === undefined && holds && result.states < run.leastStates)
    problems.push(`${name}, ${what}: ${result.states} states are too few, it has lost what it models`)
}

/** @param {{ name: string, run: Run, mutant?: string }} task */
async function verify({ name, run, mutant }) {
  const scratch = mkdtempSync(path.join(scratches, `${name}-`))
  const tool = (command, args) => said(scratch, command, args)
  const defines = Object.entries(run.defines).map(([define, value]) => `-D${define}=${value}`)
  if (mutant !== undefined) defines.push(`-DMUTANT_${mutant}`)
  await tool('spin', [...defines, '-a', path.join(folder, `${name}.pml`)])
  // 3 words of bits for weak fairness, which counts processes.
  const kind = run.kind === 'safety' ? ['-DSAFETY', '-DNOCLAIM'] : ['-DNFAIR=3']
  // A mutant is found in less time than it takes to optimise.
  await tool('gcc', [mutant === undefined ? '-O2' : '-O0', '-w', ...kind, '-o', 'pan', 'pan.c'])
  const output = await tool('./pan', ['-m100000', '-w23', ...(run.kind === 'safety' ? [] : ['-a', '-f'])])
  const number = (pattern) => Number(pattern.exec(output)?.[1] ?? Number.NaN)
  const [states, depth, errors] = [/(\d+) states, stored/, /depth reached (\d+)/, /errors: (\d+)/].map(number)
  if (!Number.isInteger(states + depth + errors) || output.includes('max search depth too small'))
    throw new Error(`The verifier of ${name} did not come to an end:\n${output}`)
  const fault = /^pan:\d+: (.*)$/m.exec(output)?.[1] ?? ''
  return { states, depth, errors, seconds: number(/elapsed time ([\d.]+)/), said: fault }
}

function said(cwd, command, args) {
  const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) =>
      code === 0 ? resolve(output) : reject(new Error(`${command} ${args.join(' ')}: ${signal ?? code}\n${output}`)),
    )
  })
}

/** Every function that a model names must be there: the model is of that code. */
function checkCitations(name, text) {
  const cited = [...text.matchAll(/((?:native|src)\/[\w/-]+\.(?:cc|h|ts)): ([\w:]*\w)/g)]
  if (cited.length === 0) problems.push(`${name} names none of the code that it models`)
  for (const [, file, what] of cited) {
    const source = path.join(root, file)
    const word = new RegExp(`(?<![\\w:])${what}(?=\\(| |;)`)
    if (!existsSync(source)) problems.push(`${name} names ${file}, which is not there`)
    else if (!word.test(readFileSync(source, 'utf8'))) problems.push(`${name} names ${what}, which is not in ${file}`)
  }
  console.log(`  ${cited.length} places in the code are named`)
}

function checkMutantsAreListed(name, text, mutants) {
  const written = new Set([...text.matchAll(/MUTANT_(\w+)/g)].map(([, mutant]) => mutant))
  for (const mutant of Object.keys(mutants))
    if (!written.delete(mutant)) problems.push(`${name} has no mutant ${mutant}`)
  for (const mutant of written) problems.push(`${name} has a mutant ${mutant}, which is not looked for`)
}

function sizesOf({ defines }) {
  return Object.entries(defines)
    .map(([define, value]) => `${value} ${define.toLowerCase()}`)
    .join(', ')
}
