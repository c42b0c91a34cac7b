// A storm that ends early proves nothing. It must give its reason, its seed, how far it came, and a bad exit code.
import assert from 'node:assert/strict'
import { fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { sabotageVariable } from './saboteur.ts'

const isNode = process.versions.bun === undefined && !('Deno' in globalThis)
const onlyPosixNode = isNode && process.platform !== 'win32' ? {} : { skip: 'the storms are tests of Node on POSIX' }
const file = (name: string) => fileURLToPath(new URL(name, import.meta.url))

interface Ending {
  readonly code: number | null
  readonly output: string
  /** What was left in the folder for temporary files. */
  readonly left: readonly string[]
}

/** Runs a storm that would go on for a long time, and lets it go wrong: by a saboteur in it, or by a signal. */
async function sabotaged(
  args: readonly string[],
  { sabotage = '', signal }: { sabotage?: string; signal?: NodeJS.Signals },
): Promise<Ending> {
  const folder = await mkdtemp(join(tmpdir(), 'os-mutex-storm-test-'))
  try {
    const child = fork(file('../storm/main.js'), args, {
      execArgv: ['--import', pathToFileURL(file('saboteur.js')).href],
      env: { ...process.env, TMPDIR: folder, [sabotageVariable]: sabotage },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    })
    const closed = once(child, 'close')
    let output = ''
    child.stdout?.once('data', () => {
      if (signal === undefined) child.send('now', () => {})
      else child.kill(signal)
    })
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    await closed
    return { code: child.exitCode, output, left: await readdir(folder) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const storms = {
  gate: ['--processes=2', '--kills=1000', '--seed=77'],
  crash: ['--processes=3', '--kills=1000', '--seed=77'],
} as const

interface Way {
  readonly how: { readonly sabotage?: string; readonly signal?: NodeJS.Signals }
  readonly args?: readonly string[]
  readonly says: RegExp
  /** It has no time to clean up. */
  readonly leaves?: true
  /** All storms meet it in the same code: one shows it. */
  readonly isShared?: true
}

const isShared = true
const ways: Readonly<Record<string, Way>> = {
  'a rejection that nobody handles': { how: { sabotage: 'rejection' }, says: /rejected by the saboteur/, isShared },
  'an exception that nobody catches': { how: { sabotage: 'exception' }, says: /thrown by the saboteur/, isShared },
  'process.exit(0)': { how: { sabotage: 'exit' }, says: /exits \(0\) without a verdict/, leaves: true, isShared },
  SIGTERM: { how: { signal: 'SIGTERM' }, says: /SIGTERM ended it/ },
  SIGINT: { how: { signal: 'SIGINT' }, says: /SIGINT ended it/, isShared },
  'a child that cannot be started': { how: { sabotage: 'no start' }, says: /could not be started: .*ENOENT/ },
  'a child that ends before it begins': { how: { sabotage: 'exit at once' }, says: /ended.* \(3\)/ },
  'a child that ends by itself': { how: { sabotage: 'exit later' }, says: /ended.* \(3\)/ },
  'children that hang': { how: { sabotage: 'hang' }, args: ['--hang-seconds=1'], says: /For 1 s nobody/ },
  'time that is over before all kills have come': { how: {}, args: ['--seconds=1'], says: /1 s were over before/ },
}

for (const [storm, options] of Object.entries(storms)) {
  for (const [what, { how, args = [], says, leaves, isShared }] of Object.entries(ways)) {
    if (isShared && storm !== 'crash') continue
    test(`a ${storm} storm that ends early by ${what} says why, how far it came and what repeats it`, {
      ...onlyPosixNode,
      timeout: 120_000,
    }, async () => {
      const { code, output, left } = await sabotaged([storm, ...options, ...args], how)
      assert.equal(code, 2, output)
      assert.match(output, /^THE STORM ENDED EARLY and proves nothing: /m)
      assert.match(output, says)
      assert.match(output, /^It had come to (nothing|\d+ of 1000 kills)/m)
      assert.match(output, /--seed=77 does the same again/)
      assert.doesNotMatch(output, /STORM PASSED/)
      if (!leaves) assert.deepEqual(left, [])
    })
  }
}

test('a storm refuses counts and times that would let it end before it has begun', onlyPosixNode, async () => {
  for (const option of ['--seconds=soon', '--kills=0', '--kills=', '--processes=-1']) {
    const { code, output } = await sabotaged(['gate', option], {})
    assert.notEqual(code, 0)
    assert.match(output, new RegExp(`${option} is not a number above 0`))
  }
})

test('a storm that has passed says so in its last line', { ...onlyPosixNode, timeout: 120_000 }, async () => {
  const args = ['crash', '--processes=2', '--kills=2', '--acquisitions=100', '--seed=77']
  const child = spawn(process.execPath, [file('../storm/main.js'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const [code] = await once(child, 'close')
  assert.equal(code, 0, output)
  assert.match(output, /\nSTORM PASSED: crash, seed 77, \d+ kills, \d+ acquisitions, 0 promises broken\n$/)
})

const endings: Readonly<Record<string, readonly [program: string, code: number]>> = {
  'ends with 0 and no verdict': ["console.log('all is well')", 1],
  'is killed after its verdict': ["console.log('STORM PASSED: x'); process.kill(process.pid, 'SIGKILL')", 1],
  'fails after its verdict': ["console.log('STORM PASSED: x'); process.exit(7)", 7],
  'says more after its verdict': ["console.log('STORM PASSED: x\\nno, wait')", 1],
  'has passed': ["console.log('STORM PASSED: x')", 0],
}

for (const [what, [program, code]] of Object.entries(endings)) {
  test(`a caller that asks for a verdict has ${code} from a storm that ${what}`, onlyPosixNode, async () => {
    const script = `
      import { runToVerdict } from ${JSON.stringify(new URL('../../../scripts/verdict.mjs', import.meta.url).href)}
      const args = ['-e', ${JSON.stringify(program)}]
      process.exitCode = await runToVerdict(process.execPath, args, { passed: 'STORM PASSED: ' })`
    const caller = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let errors = ''
    caller.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text
    })
    const [ending] = await once(caller, 'close')
    assert.equal(ending, code, errors)
    assert.equal(/^NOT PASSED: /m.test(errors), code !== 0, errors)
  })
}
