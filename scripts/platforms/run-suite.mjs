// Runs test files on a target and reads what became of each test.
import { spawn } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { processesOf } from './process-group.mjs'

/** So long may a file be without a test that begins or ends. */
const stillLimitMs = 90_000
const running = new Set()

// These take longest, and begin first: at the end of a run there is nothing to do beside them.
const first = [
  'mutex/teardown',
  'mutex/crash',
  'mutex/win32-threads',
  'gate/load',
  'gate/backend',
  'gate/download',
].map((name) => `${name}.test.js`)

export function inOrder(files) {
  return [...first.filter((file) => files.includes(file)), ...files.filter((file) => !first.includes(file))]
}

/**
 * @typedef {{ file: string, name: string, outcome: 'passed' | 'failed' | 'skipped', reason?: string, error?: string }} Result
 * @typedef {{ file: string, error: string }} Repetition what cut the first run off
 * @returns {Promise<{ results: Result[], repetitions: Repetition[] }>}
 */
export async function runFiles(target, launcher, folder, files) {
  const results = []
  const repetitions = []
  const waiting = [...files]
  const work = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      let run = await runFile(target, launcher, folder, file)
      for (let left = target.repetitions ?? 0; left > 0 && run.cutOff !== undefined && !hasFailed(run); left--) {
        repetitions.push({ file, error: run.cutOff })
        run = await runFile(target, launcher, folder, file)
      }
      results.push(...run.results)
      if (run.cutOff !== undefined)
        results.push({ file, name: `(the file ${file})`, outcome: 'failed', error: run.cutOff })
    }
  }
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work))
  return { results, repetitions }
}

function hasFailed({ results }) {
  return results.some(({ outcome }) => outcome === 'failed')
}

/** `cutOff`: how the file ended before its end, where no failed test says it. */
async function runFile(target, { command, env }, folder, file) {
  const told = path.join('results', file.replace(/\.test\.js$/, '.jsonl'))
  const events = path.join(folder, told)
  mkdirSync(path.dirname(events), { recursive: true })
  const log = path.join(folder, 'results', file.replace(/\.test\.js$/, '.log'))
  const script = `out/test/${file}`
  const args = target.foreign
    ? ['run-file.mjs', script]
    : ['--test-reporter=./reporter.mjs', `--test-reporter-destination=${told}`, script]
  const [program, ...before] = command
  rmSync(events, { force: true })
  const output = openSync(log, 'w') // Wine takes no pipe
  const child = spawn(program, [...before, ...args], {
    cwd: folder,
    env: { ...env, OS_MUTEX_TEST_RESULTS: told },
    stdio: ['ignore', output, output],
    detached: true, // a process group, which can be ended as a whole
  })
  closeSync(output)
  const ending = await ended(child, events, stillLimitMs * (target.slowness ?? 1))
  return readResults(file, events, log, ending)
}

/** How it ended: an exit code, or what happened to it. */
function ended(child, events, limitMs) {
  running.add(child)
  return new Promise((resolve) => {
    let size = 0
    let since = performance.now()
    const watch = setInterval(() => {
      const now = statSync(events, { throwIfNoEntry: false })?.size ?? 0
      if (now !== size) [size, since] = [now, performance.now()]
      if (performance.now() - since < limitMs) return
      end(`nothing for ${limitMs / 1000} s. Its processes then:\n${processesOf(child.pid)}`)
      endGroup(child)
    }, 1000)
    const end = (how) => {
      clearInterval(watch)
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
  const wasToldOf = hasFailed({ results })
  // A file that calls process.exit(0) in its midst has a good exit code, and results of its first tests.
  const isWhole = told.some((event) => event.isWhole)
  if (results.length > 0 && ((ending === 0 && isWhole) || (ending === 1 && wasToldOf))) return { results }
  const begun = told.findLast((event) => event.begins !== undefined)?.begins
  const said = readFileSync(log, 'utf8').slice(-2000)
  return { results, cutOff: `Last begun: ${begun ?? 'nothing'}. The file ended with ${ending}\n${said}` }
}
