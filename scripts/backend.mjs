// `npm run test:backend [-- --kill-after=N]`: a real build of llama.cpp from the source that node-llama-cpp brings, by
// three processes of which the one that builds is killed in the middle, after N seconds of compiling (30 unless given).
// By hand: it takes some 10 minutes on two cores. It needs git, cmake, make and a C++ compiler, and no network where
// Node's headers lie beside Node. Only a last line that begins with `BACKEND PASSED` says that it has passed.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { requireTool, root, setUp } from './setup.mjs'

const { values: options } = parseArgs({ options: { 'kill-after': { type: 'string', default: '30' } } })
setUp()
for (const [tool, debianPackage] of [
  ['git', 'git'],
  ['cmake', 'cmake'],
  ['make', 'make'],
  ['g++', 'g++'],
]) {
  requireTool(tool, debianPackage)
}

const { GateInstall } = await import(path.join(root, 'out/test/support/gate-install.js'))
const install = await GateInstall.create({ withNodeLlamaCpp: true })
const home = path.join(install.path, 'home')
const locks = path.join(install.path, 'locks')
mkdirSync(locks)
provideHeaders()

const startedAt = performance.now()
const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(1)
const callers = []
const problems = []
const check = (what, isGood) => {
  console.log(`${seconds()} s: ${what}: ${isGood ? 'yes' : 'NO'}`)
  if (!isGood) problems.push(what)
}

try {
  const first = start('the first')
  await until('the first compiles', () => first.hasCompiled() || first.ended)
  check('the first builds', !first.ended)
  await delay(Number(options['kill-after']) * 1000)

  const hasty = start('a hasty one', { timeoutMs: 2000 })
  const waiters = [start('the second'), start('the third')]
  await until('the others wait', () => waiters.every(({ messages }) => messages.some(({ wait }) => wait !== undefined)))
  await hasty.end
  const { code, afterMs } = hasty.messages.at(-1) ?? {}
  check(
    `one with 2 s of patience gave up (${code}) after ${Math.round(afterMs)} ms`,
    code === 'ERR_MUTEX_TIMEOUT' && afterMs < 10_000,
  )
  check(
    'the others wait for the first',
    waiters.every(({ messages }) => messages[0]?.wait === first.pid),
  )

  const objects = compiledFiles()
  first.kill()
  console.log(`${seconds()} s: the first was killed, with ${objects} files compiled`)
  const killedAt = performance.now()
  await Promise.all(waiters.map(({ end }) => end))
  const took = ((performance.now() - killedAt) / 1000).toFixed(0)
  for (const { name, messages } of waiters) {
    check(`${name} has what was built`, messages.at(-1)?.done === 'localBuild')
  }
  const builders = waiters.filter(({ output }) => /Compiling|cmake-js|Building/.test(output()))
  check('one of the two built it', builders.length === 1)
  console.log(`${seconds()} s: ${took} s from the kill to two usable instances`)
  const late = start('a late one', { timeoutMs: 0 })
  await late.end
  check('a late one takes what was built', late.messages.at(-1)?.done === 'localBuild')
} finally {
  for (const caller of callers) caller.kill()
  for (const { group } of callers) endGroup(group)
  await install[Symbol.asyncDispose]()
}
console.log(
  `BACKEND ${problems.length === 0 ? 'PASSED' : 'FAILED'}: ${seconds()} s in all; not as it should be: ${problems.length}`,
)
process.exitCode = problems.length === 0 ? 0 : 1

/** cmake-js looks for them in the home folder, and downloads them only where they are not there. */
function provideHeaders() {
  const headers = path.join(path.dirname(path.dirname(realpathSync(process.execPath))), 'include')
  if (!existsSync(path.join(headers, 'node/node_api.h'))) return
  const folder = path.join(home, '.cmake-js', `node-${process.arch}`, process.version)
  mkdirSync(folder, { recursive: true })
  mkdirSync(path.join(folder, 'include'))
  cpSync(path.join(headers, 'node'), path.join(folder, 'include/node'), { recursive: true })
}

function start(name, callOptions = {}) {
  const gate = { prefix: 'backend-test', mutexDirectory: locks }
  const program = `
    import { LlamaModelGate } from 'os-mutex/llama'
    const say = (message) => console.log(JSON.stringify(message))
    const startedAt = performance.now()
    try {
      const options = { gpu: false, usePrebuiltBinaries: false, progressLogs: 'stderr', ...${JSON.stringify(callOptions)} }
      const gate = new LlamaModelGate(${JSON.stringify(gate)})
      const llama = await gate.getLlama({ ...options, onWait: (owner) => say({ wait: owner?.pid ?? null }) })
      say({ done: llama.buildType })
      await llama.dispose()
    } catch ({ code, message }) {
      say({ code, message, afterMs: performance.now() - startedAt })
    }`
  // In a process group, so that the compilers of a killed one can be ended at the end, and not before.
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: install.path,
    env: { ...process.env, HOME: home, USERPROFILE: home },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const messages = []
  let output = ''
  child.stderr.on('data', (chunk) => {
    output += chunk
  })
  createInterface(child.stdout).on('line', (line) => {
    if (!line.startsWith('{')) return
    messages.push(JSON.parse(line))
    console.log(`${seconds()} s: ${name} (pid ${child.pid}): ${line}`)
  })
  const caller = {
    name,
    messages,
    pid: child.pid,
    group: child.pid,
    ended: false,
    output: () => output,
    hasCompiled: () => compiledFiles() > 0,
    end: once(child, 'exit').then(() => {
      caller.ended = true
    }),
    kill: () => {
      if (!caller.ended) child.kill('SIGKILL')
    },
  }
  callers.push(caller)
  return caller
}

function endGroup(group) {
  try {
    process.kill(-group, 'SIGKILL')
  } catch {
    // Nobody is left in it.
  }
}

/** Object files of the build under way. */
function compiledFiles() {
  const builds = path.join(install.path, 'node_modules/node-llama-cpp/llama/localBuilds')
  if (!existsSync(builds)) return 0
  try {
    return readdirSync(builds, { recursive: true }).filter((name) => /\.(o|obj)$/.test(name)).length
  } catch {
    // A folder went away while it was read.
    return 0
  }
}

async function until(what, condition) {
  const giveUpAt = performance.now() + 900_000
  while (!condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Waited in vain until ${what}`)
    await delay(500)
  }
}
