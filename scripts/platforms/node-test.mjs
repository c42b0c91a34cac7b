// As much of node:test as the tests of this package use, for runtimes whose own tells no reasons and can't end a test that hangs. Tells
// the same events as reporter.mjs.
import { appendFileSync } from 'node:fs'
import { inspect } from 'node:util'

const limitMs = 120_000
const results = process.env.OS_MUTEX_TEST_RESULTS
const [befores, tests, afters] = [[], [], []]

export const before = (run) => void befores.push(run)
export const after = (run) => void afters.push(run)

export function test(name, ...rest) {
  const [options, run] = rest.length > 1 ? rest : [{}, rest[0]]
  tests.push({ name, options, run })
}

/** Runs what the test file has registered, in order. */
export async function runAll() {
  for (const run of befores) await run()
  for (const { name, options, run } of tests) {
    tell({ begins: name })
    tell({ name, ...(await outcome(options, run)) })
  }
  for (const run of afters) await run()
  tell({ isWhole: true })
}

async function outcome(options, run) {
  if (options.skip) return { outcome: 'skipped', reason: String(options.skip) }
  const cleanUps = []
  let reason
  const context = {
    after: (cleanUp) => void cleanUps.push(cleanUp),
    skip: (why) => {
      reason = String(why)
    },
  }
  try {
    try {
      await within(options.timeout ?? limitMs, run(context))
    } finally {
      for (const cleanUp of cleanUps) await cleanUp()
    }
  } catch (error) {
    return { outcome: 'failed', error: inspect(error) }
  }
  return reason === undefined ? { outcome: 'passed' } : { outcome: 'skipped', reason }
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
