// A test file that ends in its midst with a good exit code has not passed on a platform, whatever its first tests said.
import assert from 'node:assert/strict'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

const platforms = new URL('../../../scripts/platforms/', import.meta.url)

interface Result {
  readonly name: string
  readonly outcome: string
}

async function outcomesOf(program: string): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'os-mutex-platforms-test-'))
  try {
    await mkdir(join(folder, 'out/test/mutex'), { recursive: true })
    await mkdir(join(folder, 'results'))
    await copyFile(new URL('reporter.mjs', platforms), join(folder, 'reporter.mjs'))
    await writeFile(join(folder, 'package.json'), '{"type":"module"}')
    await writeFile(join(folder, 'out/test/mutex/some.test.js'), `import { test } from 'node:test'\n${program}`)
    const { runFiles } = await import(new URL('run-suite.mjs', platforms).href)
    const env = { ...process.env }
    delete env.NODE_TEST_CONTEXT
    const run = await runFiles({}, { command: [process.execPath], env }, folder, ['mutex/some.test.js'])
    return run.results.map(({ name, outcome }: Result) => `${name} ${outcome}`)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const slow = 'await new Promise((resolve) => setTimeout(resolve, 300))'
const onlyPosixNode =
  process.versions.bun === undefined && !('Deno' in globalThis) && process.platform !== 'win32'
    ? { timeout: 60_000 }
    : { skip: 'the script runs on Node and Linux' }

test('a test file that runs to its end has the results of its tests', onlyPosixNode, async () => {
  const outcomes = await outcomesOf(`test('one', async () => { ${slow} }); test('two', () => {})`)
  assert.deepEqual(outcomes, ['one passed', 'two passed'])
})

test('a test file that calls process.exit(0) in its midst has failed', onlyPosixNode, async () => {
  const program = `test('one', async () => { ${slow} }); test('two', async () => { ${slow}; process.exit(0) }); test('three', () => {})`
  const outcomes = await outcomesOf(program)
  assert.ok(outcomes.includes('(the file mutex/some.test.js) failed'), outcomes.join())
})
