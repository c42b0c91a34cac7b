// getLlama's option `module`: node-llama-cpp from elsewhere than node_modules, and what is said where it can't be imported.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { Script } from 'node:vm'
import * as nodeLlamaCpp from 'node-llama-cpp'
import { type GetLlamaOptions, LlamaModelGate } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { GateInstall } from '../support/gate-install.ts'

type Module = GetLlamaOptions['module']

const existing = { gpu: false, build: 'never', skipDownload: true, progressLogs: false } as const
let folder: GateFolder
let gate: LlamaModelGate

before(async () => {
  folder = await GateFolder.create()
  gate = new LlamaModelGate(folder.options)
})
after(() => folder[Symbol.asyncDispose]())

for (const [title, module] of [
  ['the imported module', nodeLlamaCpp],
  ['a promise of it', import('node-llama-cpp')],
  ['a function that returns it', () => nodeLlamaCpp],
  ['a function that imports it', () => import('node-llama-cpp')],
] as const) {
  test(`module: ${title}`, async () => {
    const llama = await gate.getLlama({ ...existing, module })
    assert.equal(llama.gpu, false)
    await llama.dispose()
  })
}

test('what is not node-llama-cpp is refused, with what it is', async () => {
  for (const [value, said] of [
    [null, /It is null/],
    [1, /It is 1/],
    ['node-llama-cpp', /It is 'node-llama-cpp'/],
    [{}, /It is \{\}/],
    [Promise.resolve(undefined), /It is undefined/],
    [() => {}, /The function returned undefined/],
    [async () => ({ default: nodeLlamaCpp }), /The function returned \[Object\]/],
    [{ getLlama: nodeLlamaCpp.getLlama }, /It is \[Object\]/],
  ] as const) {
    await assert.rejects(gate.getLlama({ ...existing, module: value as unknown as Module }), (error: Error) => {
      assert.deepEqual([error.name, 'code' in error && error.code], ['TypeError', 'ERR_MUTEX_INVALID_ARGUMENT'])
      assert.match(error.message, /The option "module" must be node-llama-cpp/)
      assert.match(error.message, said)
      return true
    })
  }
})

test('a function that fails is reported with its error', async () => {
  const cause = new Error('the disk is gone\nand more')
  const fail = () => {
    throw cause
  }
  for (const module of [fail, async () => fail()]) {
    await assert.rejects(gate.getLlama({ module }), {
      name: 'LlamaBackendError',
      code: 'ERR_LLAMA_IMPORT_FAILED',
      message: 'node-llama-cpp could not be loaded: the disk is gone',
      cause,
    })
  }
})

test("where import() is switched off, as in Jest, the flag and the gate's options are named", async () => {
  // What Jest does with every file of CommonJS.
  const module = () => new Script(`import('node-llama-cpp')`).runInThisContext() as Promise<typeof nodeLlamaCpp>
  await assert.rejects(gate.getLlama({ module }), (error: Error) => {
    assert.equal('code' in error && error.code, 'ERR_LLAMA_IMPORT_FAILED')
    for (const part of ['NODE_OPTIONS=--experimental-vm-modules', '"module"', '"llama"'])
      assert.ok(error.message.includes(part), error.message)
    return true
  })
})

/** Runs the text, and returns what it calls `say` with. */
async function run(install: GateInstall, program: string): Promise<unknown[]> {
  const child = install.run(`
    import { LlamaModelGate } from 'os-mutex/llama'
    process.execArgv = [] // node-llama-cpp tries a binary in a process with the same, and --eval would be among it
    const gate = new LlamaModelGate(${JSON.stringify(folder.options)})
    const existing = ${JSON.stringify(existing)}
    const say = (message) => console.log('said', JSON.stringify(message))
    const failure = (error) => ({ code: error.code, message: error.message })
    ${program}
  `)
  assert.ok(child.stdout && child.stderr)
  const [output, errors, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')])
  if (code !== 0) assert.fail(errors)
  const lines = output.split('\n').filter((line) => line.startsWith('said '))
  return lines.map((line) => JSON.parse(line.slice('said '.length)))
}

test('a program that has node-llama-cpp outside node_modules gives it to the gate', async () => {
  await using install = await GateInstall.create({ withNodeLlamaCpp: false })
  const [without, withIt] = await run(
    install,
    `
    say(await gate.getLlama(existing).catch(failure))
    const module = () => import(${JSON.stringify(import.meta.resolve('node-llama-cpp'))})
    const llama = await gate.getLlama({ ...existing, module })
    say({ gpu: llama.gpu })
    await llama.dispose()
    `,
  )
  const { code, message } = without as { code: string; message: string }
  assert.equal(code, 'ERR_LLAMA_NOT_INSTALLED')
  assert.match(message, /npm install node-llama-cpp@3\b.*"module"/)
  assert.deepEqual(withIt, { gpu: false })
})

test('a package that is there and broken is not called missing', async () => {
  await using install = await GateInstall.create({ withNodeLlamaCpp: true })
  rmSync(join(install.path, 'node_modules/lifecycle-utils'), { recursive: true })
  const [failure] = await run(install, 'say(await gate.getLlama(existing).catch(failure))')
  const { code, message } = failure as { code: string; message: string }
  assert.equal(code, 'ERR_LLAMA_IMPORT_FAILED')
  assert.match(message, /'lifecycle-utils'/)
})

/** As `node-llama-cpp` names its builds without a GPU. */
const variant = `${{ win32: 'win', darwin: 'mac' }[process.platform as string] ?? process.platform}-${process.arch}`

test('only of the copy that is in node_modules are builds waited for and sources removed', async () => {
  await using install = await GateInstall.create({ withNodeLlamaCpp: true })
  const llama = join(install.path, 'node_modules/node-llama-cpp/llama')
  const half = join(llama, 'llama.cpp/half-a-clone')
  for (const name of ['localBuilds', 'llama.cpp']) {
    rmSync(join(llama, name), { recursive: true, force: true })
    mkdirSync(join(llama, name))
  }
  writeFileSync(half, '')
  const said = await run(
    install,
    `
    import { existsSync, mkdirSync, rmdirSync, utimesSync } from 'node:fs'
    const lock = ${JSON.stringify(join(llama, `localBuilds/${variant}.lock`))}
    const half = ${JSON.stringify(half)}
    const own = await import('node-llama-cpp')
    class NoBinaryFoundError extends Error {}
    let asked = 0
    /** Of the same version, but not the same. */
    const other = {
      ...own,
      NoBinaryFoundError,
      getLlama: async () => {
        asked++
        throw new Error('no')
      },
    }
    // Made when all is imported: after 10 s untouched it is nobody's.
    mkdirSync(lock)
    for (const module of [own, other]) {
      utimesSync(lock, new Date(), new Date())
      say((await gate.getLlama({ ...existing, module, timeoutMs: 0 }).catch(failure)).code)
    }

    rmdirSync(lock)
    for (const module of [other, own]) {
      asked = 0
      const controller = new AbortController()
      const options = { gpu: false, build: 'forceRebuild', progressLogs: false, signal: controller.signal, module }
      // The source is removed between the first try and the second.
      const look = setInterval(() => {
        if (asked === 2 || !existsSync(half)) controller.abort(Object.assign(new Error(), { code: 'ABORTED' }))
      }, 50)
      say((await gate.getLlama(options).catch(failure)).code)
      clearInterval(look)
      say([asked, existsSync(half)])
    }
    `,
  )
  assert.deepEqual(said, ['ERR_MUTEX_TIMEOUT', 'ERR_LLAMA_BACKEND_FAILED', 'ABORTED', [2, true], 'ABORTED', [0, false]])
})
