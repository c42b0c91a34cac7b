// Runs test files on a target and reads what became of each test.
import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { suiteOf } from './targets.mjs'

const fileLimitMs = 240_000
const running = new Set()

// These take longest, and begin first: at the end of a run there is nothing to do beside them.
const first = ['teardown', 'crash', 'gate-load', 'gate-backend', 'gate-download'].map((name) => `${name}.test.js`)

/** Names of the suite's test files. */
export function filesOf(folder, suite) {
  const files = readdirSync(path.join(folder, 'out/test')).filter((name) => name.endsWith('.test.js'))
  const ordered = [...first.filter((file) => files.includes(file)), ...files.filter((file) => !first.includes(file))]
  return ordered.filter((file) => suiteOf(file) === suite)
}

/**
 * @typedef {{ file: string, name: string, outcome: 'passed' | 'failed' | 'skipped', reason?: string, error?: string }} Result
 * @returns {Promise<Result[]>}
 */
export async function runFiles(target, launcher, folder, files) {
  const results = []
  const waiting = [...files]
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      results.push(...(await runFile(target, launcher, folder, file)))
    }
  }
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work))
  return results
}

async function runFile(target, { command, env }, folder, file) {
  const events = path.join('results', file.replace(/\.test\.js$/, '.jsonl'))
  const log = path.join(folder, 'results', file.replace(/\.test\.js$/, '.log'))
  const script = `out/test/${file}`
  const args = target.foreign
    ? ['run-file.mjs', script]
    : ['--test-reporter=./reporter.mjs', `--test-reporter-destination=${events}`, script]
  const [program, ...before] = command
  const output = openSync(log, 'w') // Wine takes no pipe
  const child = spawn(program, [...before, ...args], {
    cwd: folder,
    // A fifth of the worker threads that `npm test` starts.
    env: { ...env, OS_MUTEX_TEST_RESULTS: events, OS_MUTEX_TEST_WORKERS: '100' },
    stdio: ['ignore', output, output],
    detached: true, // a process group, which can be ended as a whole
  })
  closeSync(output)
  const ending = await ended(child, fileLimitMs * (target.slowness ?? 1))
  return readResults(file, path.join(folder, events), log, ending)
}

function ended(child, limitMs) {
  running.add(child)
  return new Promise((resolve) => {
    const timer = setTimeout(() => endGroup(child), limitMs)
    const end = (how) => {
      clearTimeout(timer)
      running.delete(child)
      resolve(how)
    }
    child.once('error', (error) => end(`could not be started: ${error.message}`))
    child.once('exit', (code, signal) => end(signal === null ? code : `ended by ${signal}`))
  })
}

function endGroup(child) {
  try {
    process.kill(-child.pid, 'SIGKILL')
  } catch {
    // It has just ended.
  }
}

/** Ends all that runs. */
export function endAll() {
  for (const child of running) endGroup(child)
}

function readResults(file, events, log, ending) {
  const lines = existsSync(events) ? readFileSync(events, 'utf8').split('\n').filter(Boolean) : []
  const told = lines.map((line) => JSON.parse(line))
  const results = told.filter((event) => event.outcome !== undefined).map((event) => ({ file, ...event }))
  const wasToldOf = results.some(({ outcome }) => outcome === 'failed')
  if (results.length > 0 && (ending === 0 || (ending === 1 && wasToldOf))) return results
  const begun = told.findLast((event) => event.begins !== undefined)?.begins
  const error = `The file ended with ${ending}, last begun: ${begun ?? 'nothing'}\n${readFileSync(log, 'utf8').slice(-2000)}`
  return [...results, { file, name: `(the file ${file})`, outcome: 'failed', error }]
}
