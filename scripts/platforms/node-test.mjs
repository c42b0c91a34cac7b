// As much of node:test as the tests of this package use, for runtimes whose own tells no reasons and can't end a test that hangs. Tells
// the same events as reporter.mjs.
import { appendFileSync } from 'node:fs'
import { inspect } from 'node:util'

const limitMs = 120_000
const results = process.env.OS_MUTEX_TEST_RESULTS
const [befores, beforeEachs, tests, afters] = [[], [], [], []]
const suites = []

export const before = (run) => void befores.push(run)
export const beforeEach = (run) => void beforeEachs.push(run)
export const after = (run) => void afters.push(run)

/** The names of its tests begin with its own. */
export function suite(name, register) {
  suites.push(name)
  register()
  suites.pop()
}

export function test(name, ...rest) {
  const run = rest.find((each) => typeof each === 'function') ?? (() => {})
  const options = rest.find((each) => typeof each === 'object') ?? {}
  tests.push({ name: [...suites, name].join(': '), options, run })
}

/** Runs what the test file has registered, in order. */
export async function runAll() {
  for (const run of befores) await run()
  for (const { name, options, run } of tests) {
    tell({ begins: name })
    tell({ name, ...(await outcome(options, run)) })
  }
  for (const run of afters) await within(limitMs / 2, run())
  tell({ isWhole: true })
}

async function outcome(options, run) {
  if (options.skip) return { outcome: 'skipped', reason: String(options.skip) }
  const cleanUps = []
  let reason
  const context = {
    after: (cleanUp) => void cleanUps.push(cleanUp),
    mock: { method: (...what) => mockMethod(cleanUps, ...what) },
    skip: (why) => {
      reason = String(why)
    },
  }
  try {
    try {
      for (const run of beforeEachs) await run()
      await within(options.timeout ?? limitMs, run(context))
    } finally {
      for (const cleanUp of cleanUps) await cleanUp()
    }
  } catch (error) {
    return { outcome: 'failed', error: inspect(error) }
  }
  return reason === undefined ? { outcome: 'passed' } : { outcome: 'skipped', reason }
}

/** Notes each call of a method, and hands it on to `stand`, until the test ends. */
function mockMethod(cleanUps, object, name, stand = object[name]) {
  const own = Object.getOwnPropertyDescriptor(object, name)
  const calls = []
  function method(...args) {
    calls.push({ arguments: args })
    return stand.apply(this, args)
  }
  Object.defineProperty(object, name, { configurable: true, writable: true, value: method })
  cleanUps.push(() => (own === undefined ? delete object[name] : Object.defineProperty(object, name, own)))
  return Object.assign(method, { mock: { calls } })
}

async function within(ms, promise) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`The test has not ended within ${ms} ms`)), ms)
  })
  try {
    await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

function tell(event) {
  appendFileSync(results, `${JSON.stringify(event)}\n`)
}
