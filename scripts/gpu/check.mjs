// The check itself, which runs from its pack (see ../gpu.mjs) on the machine with the GPU. Several processes load a
// model and create contexts at the same time, and together they want more of the GPU's memory than there is: in some
// rounds through the gate, in as many by node-llama-cpp alone. Only a last line that begins with `GPU PASSED` says that
// it has passed: with the gate, node-llama-cpp's estimate refused all that did not fit, and the driver nothing.
import { fork } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { makeTinyGguf } from '../../out/test/support/tiny-gguf.js'

const PROCESSES = 4
/** Three would fit. But all four get a model and a first context, which leaves room for one of four second contexts. */
const FITTING = 3
const CONTEXTS = 2
const GIB = 2 ** 30
const OUTCOMES = { ok: 'ok', estimate: 'refused by estimate', driver: 'refused by driver', other: 'failed otherwise' }

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    /** GiB: how much of the free memory to use, on a GPU that others use too. All that is free unless given. */
    memory: { type: 'string' },
  },
})
const rounds = Number(options.rounds)
const limit = options.memory === undefined ? undefined : Number(options.memory) * GIB
if (!(rounds >= 1) || !(limit === undefined || limit > 0))
  throw new RangeError('--rounds and --memory take numbers above 0')

const folder = mkdtempSync(path.join(tmpdir(), 'os-mutex-gpu-'))
const members = new Set()
process.once('exit', () => {
  for (const { child } of members) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))

const device = await findDevice()
const padding = limit === undefined ? device.padding : device.free - limit
const usable = device.free - padding
const share = usable / FITTING
const model = makeTinyGguf({ path: path.join(folder, 'model.gguf'), bytes: Math.min(share / 8, GIB) })
const task = { modelPath: model.path, contexts: CONTEXTS, contextBytes: (share - model.bytes) / CONTEXTS, padding }
mkdirSync(path.join(folder, 'locks'))
console.log(
  `${device.names.join(' and ')}: ${gib(device.total)} of memory, ${gib(device.free)} free, ${gib(usable)} of it to be used\n` +
    `${PROCESSES} processes at once, each with a model of ${gib(model.bytes)} and ${CONTEXTS} contexts of ` +
    `${gib(task.contextBytes)}: ${FITTING} of them fit`,
)

// Also so that no round has to compile the shaders, which takes seconds and is remembered by the driver.
const alone = await attempt(1, 'without')
console.log(`one of them alone: ${summary(alone)}`)
if (count(alone, { outcome: 'ok' }) < CONTEXTS + 2) {
  console.log('GPU FAILED: a process alone does not get its share')
  process.exit(1)
}

const steps = []
for (let round = 1; round <= rounds; round++) {
  for (const way of ['with the gate', 'without']) {
    const results = await attempt(PROCESSES, way)
    console.log(`round ${round} ${way}: ${summary(results)}`)
    steps.push(...results)
  }
}

const heads = ['', '', ...Object.values(OUTCOMES), 'median', 'longest']
console.log(`\n${heads.map(cell).join('')}`)
for (const way of ['with the gate', 'without']) {
  for (const step of ['load', 'context', 'token']) {
    const results = steps.filter((each) => each.way === way && each.step === step)
    const times = results.map(({ ms }) => ms).sort((a, b) => a - b)
    const counts = Object.keys(OUTCOMES).map((outcome) => String(count(results, { outcome })))
    console.log([way, step, ...counts, duration(times[times.length >> 1]), duration(times.at(-1))].map(cell).join(''))
  }
}

const gated = steps.filter(({ way }) => way === 'with the gate')
const problems = []
if (count(gated, { outcome: 'driver' }) > 0) problems.push('with the gate the driver refused memory')
if (count(gated, { outcome: 'other' }) > 0)
  problems.push('with the gate something failed that has nothing to do with memory')
if (count(gated, { step: 'token', outcome: 'ok' }) === 0) problems.push('with the gate no process came to a token')
// Where the driver does not tell a process what the others use (VK_EXT_memory_budget), no estimate can be right.
if (count(gated, { outcome: 'estimate' }) === 0)
  problems.push('the limit was not reached: no estimate refused anything')
console.log(`\nGPU ${problems.length === 0 ? 'PASSED' : `FAILED: ${problems.join('; ')}`}`)
process.exitCode = problems.length === 0 ? 0 : 1

/** Ends the program with what is missing where there is no device. */
async function findDevice() {
  const member = start({ way: 'without' })
  const { names, total, free, padding, error } = (await member.next('device')) ?? { error: member.ending }
  await member.end()
  if (names?.length > 0 && free > 0) return { names, total, free, padding }

  const list = (directory, pattern) =>
    (existsSync(directory) ? readdirSync(directory) : []).filter((file) => pattern.test(file)).join(', ') || 'none'
  const libraries = ['/usr/lib/x86_64-linux-gnu', '/usr/lib64', '/usr/lib']
  const drivers = [
    'libGLX_nvidia.so.0',
    'libEGL_nvidia.so.0',
    'libcuda.so.1',
    'libvulkan_radeon.so',
    'libvulkan_intel.so',
  ]
  const found = drivers.filter((file) => libraries.some((directory) => existsSync(path.join(directory, file))))
  console.error(
    `No GPU was found through Vulkan: ${error ?? 'no driver has a device'}\n` +
      `  devices in /dev: NVIDIA ${list('/dev', /^nvidia\d/)}; DRI ${list('/dev/dri', /^renderD/)}\n` +
      `  descriptions of drivers in /usr/share/vulkan/icd.d: ${list('/usr/share/vulkan/icd.d', /./)}; ` +
      `in /etc/vulkan/icd.d: ${list('/etc/vulkan/icd.d', /./)}\n` +
      `  drivers: ${found.join(', ') || 'none'}\n` +
      '  NVIDIA needs its graphics driver, not only CUDA (containers: NVIDIA_DRIVER_CAPABILITIES=all), others Mesa\n' +
      '  (Debian: mesa-vulkan-drivers). A software device is used only if GGML_VK_VISIBLE_DEVICES=0 is set.',
  )
  console.log('GPU FAILED: there is none')
  process.exit(1)
}

/** So many processes at once; what became of each of their steps. */
async function attempt(processes, way) {
  const begun = Array.from({ length: processes }, () => start({ ...task, way, locks: path.join(folder, 'locks') }))
  await Promise.all(begun.map((member) => member.next('device')))
  for (const member of begun) member.say('go')
  // Each keeps what it got until all have tried.
  await Promise.all(begun.map((member) => member.next('done')))
  await Promise.all(begun.map((member) => member.end()))
  return begun.flatMap(({ results }) => results.map((result) => ({ ...result, way })))
}

function summary(results) {
  const counts = Object.entries(OUTCOMES).map(([outcome, words]) => `${count(results, { outcome })} ${words}`)
  const bad = results.filter(({ outcome }) => outcome === 'driver' || outcome === 'other')
  return [counts.join(', '), ...bad.map(({ step, message }) => `  ${step}: ${message}`)].join('\n')
}

function start(briefing) {
  const child = fork(path.join(import.meta.dirname, 'member.mjs'), [JSON.stringify(briefing)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  })
  const messages = []
  let lastWords = ''
  let notify = () => {}
  let current
  child.stderr.setEncoding('utf8').on('data', (text) => {
    lastWords = (lastWords + text).slice(-20_000)
  })
  const member = {
    child,
    results: [],
    ending: undefined,
    say: (word) => child.connected && child.send(word, () => {}),
    /** The next message of that kind; none if the process has ended. */
    async next(kind) {
      for (;;) {
        const message = messages.find((each) => each.kind === kind)
        if (message !== undefined || member.ending !== undefined) return message
        await new Promise((resolve) => {
          notify = resolve
        })
      }
    },
    async end() {
      member.say('end')
      await ended
      members.delete(member)
    },
  }
  members.add(member)
  child.on('message', (message) => {
    if (message.kind === 'begins') current = { step: message.step, at: performance.now() }
    else if (message.kind === 'result') {
      current = undefined
      member.results.push(message)
    } else messages.push(message)
    notify()
  })
  const ended = new Promise((resolve) => {
    child.once('close', (code, signal) => {
      member.ending = `the process ended with ${signal ?? code}${reasonIn(lastWords)}`
      if (!messages.some(({ kind }) => kind === 'done')) {
        // A driver that has no memory left may take the process with it.
        const { step, at } = current ?? { step: 'start', at: performance.now() }
        const outcome = current === undefined ? 'other' : 'driver'
        member.results.push({ step, outcome, ms: performance.now() - at, message: member.ending })
      }
      notify()
      resolve()
    })
  })
  return member
}

/** A stack trace follows the reason. SIGKILL, by which the kernel ends a process where memory runs out, has none. */
function reasonIn(text) {
  const line = text.split('\n').find((each) => /\.(cpp|h):\d+: |what\(\)|error/i.test(each))
  return line === undefined ? '' : `: ${line.trim()}`
}

function count(results, wanted) {
  return results.filter((result) => Object.entries(wanted).every(([key, value]) => result[key] === value)).length
}

function cell(text, index) {
  return index === 0 ? text.padEnd(15) : index === 1 ? text.padEnd(8) : text.padStart(21)
}

function gib(bytes) {
  return `${(bytes / GIB).toFixed(2)} GiB`
}

function duration(ms) {
  return ms === undefined ? '–' : `${(ms / 1000).toFixed(2)} s`
}
