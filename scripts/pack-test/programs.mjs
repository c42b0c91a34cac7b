// What a user's first program does with the installed package, and the running of it by any runtime.
import { spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const use = `
  const options = { directory: process.cwd() }
  const [first, second] = [new NamedMutex('pack test', options), new NamedMutex('pack test', options)]
  const lock = await first.acquire({ timeoutMs: 60_000 })
  if (second.tryAcquire() !== null) throw new Error('two owners')
  const next = second.acquire({ timeoutMs: 60_000 })
  lock.release()
  const nextLock = await next
  if (nextLock.abandoned) throw new Error('a release was told as an abandonment')
  nextLock.release()`

const programs = {
  "import 'os-mutex'": {
    file: 'import.mjs',
    text: `import { NamedMutex } from 'os-mutex'\n${use}\nconsole.log('done')\n`,
  },
  "require('os-mutex')": {
    file: 'require.cjs',
    text: `const { NamedMutex } = require('os-mutex')\nasync function main() {${use}\n  console.log('done')\n}\nmain()\n`,
  },
  "import 'os-mutex/llama' without node-llama-cpp": {
    file: 'llama.mjs',
    text: `import { LlamaModelGate } from 'os-mutex/llama'
const gate = new LlamaModelGate({ modelsDirectory: 'models' })
const isThere = await import('node-llama-cpp').then(() => true, () => false)
if (isThere) throw new Error('node-llama-cpp is installed, so nothing is shown')
const error = await gate.ensureModel('not a model').then(() => undefined, (error) => error)
if (!String(error?.code).startsWith('ERR_')) throw new Error('no coded error', { cause: error })
console.log('done')
`,
  },
}

export function writePrograms(project) {
  for (const { file, text } of Object.values(programs)) writeFileSync(path.join(project, file), text)
}

/**
 * Runs each program as `COMMAND… FILE` in the project.
 * @param {string} project the prepared project's folder
 * @param {readonly string[]} command the runtime, with what has to stand before the script's name
 * @param {{ env?: NodeJS.ProcessEnv, timeoutMs?: number }} [options]
 * @returns {Promise<{ name: string, passed: boolean, output: string, ms: number }[]>}
 */
export async function runPrograms(project, command, { env = process.env, timeoutMs = 120_000 } = {}) {
  const results = []
  for (const [name, { file }] of Object.entries(programs)) {
    const startedAt = performance.now()
    const { code, output } = await run([...command, file], { cwd: project, env, timeoutMs })
    const passed = code === 0 && output.split(/\r?\n/).includes('done')
    results.push({ name, passed, output, ms: performance.now() - startedAt })
  }
  return results
}

/** Its output goes to a file, since Wine takes no pipe. */
async function run([program, ...args], { cwd, env, timeoutMs }) {
  const log = path.join(cwd, `output-${process.pid}.log`)
  const fd = openSync(log, 'w')
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', fd, fd] })
  closeSync(fd)
  const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs)
  const code = await new Promise((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${error.message}`))
    child.once('exit', (code, signal) => resolve(signal === null ? code : `ended by ${signal}`))
  })
  clearTimeout(timer)
  const output = readFileSync(log, 'utf8')
  rmSync(log)
  return { code, output: code === 0 ? output : `${output}\n(${code})` }
}
