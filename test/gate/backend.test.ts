// getLlama: one build or clone of llama.cpp at a time on the machine.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { GateFolder } from '../support/gate-folder.ts'
import { GateInstall } from '../support/gate-install.ts'
import { GateProcess } from '../support/gate-process.ts'

const existing = { gpu: false, skipDownload: true, progressLogs: false } as const

for (const build of ['never', 'auto'] as const) {
  test(`build: '${build}' takes binaries that are there without waiting for another's build`, async () => {
    await using folder = await GateFolder.create()
    await using child = await GateProcess.start(folder.options)
    using _building = await folder.backendMutex.acquire()
    assert.deepEqual(await child.getLlama({ ...existing, build }).result, { gpu: false })
  })
}

test('what can only be built waits for its turn, and what cannot be built fails at once and frees the lock', async () => {
  await using folder = await GateFolder.create()
  await using child = await GateProcess.start(folder.options)
  const building = await folder.backendMutex.acquire()
  const call = child.getLlama({ ...existing, usePrebuiltBinaries: false })
  await call.seen((message) => message.is === 'wait')
  building.release()
  await assert.rejects(call.result, { name: 'LlamaBackendError', code: 'ERR_LLAMA_BACKEND_FAILED' })
  assert.equal(folder.backendMutex.query().held, false)
})

test('the wait for another build ends by the signal', async () => {
  await using folder = await GateFolder.create()
  await using child = await GateProcess.start(folder.options)
  using _building = await folder.backendMutex.acquire()
  const call = child.getLlama({ ...existing, usePrebuiltBinaries: false })
  await call.seen((message) => message.is === 'wait')
  call.abort()
  await assert.rejects(call.result, { message: 'aborted by the test' })
})

test('a build that fails is tried three times more under one lock', async () => {
  await using folder = await GateFolder.create()
  await using install = await GateInstall.create({ withNodeLlamaCpp: true })
  const child = install.run(`
    import { LlamaModelGate } from 'os-mutex/llama'
    const gate = new LlamaModelGate(${JSON.stringify(folder.options)})
    const error = await gate.getLlama({ gpu: false, build: 'forceRebuild', progressLogs: false }).catch((error) => error)
    console.log(JSON.stringify({ code: error.code, message: error.message, cause: error.cause instanceof Error }))
  `)
  let failures = 0
  const output = outputOf(child)
  child.stderr?.on('data', (chunk) => {
    failures += String(chunk).split('Failed to build').length - 1
    if (failures !== 1) return
    const { owner } = folder.backendMutex.query()
    assert.deepEqual([owner?.pid, owner?.purpose], [child.pid, 'build llama.cpp'])
  })
  const { code, message, cause } = JSON.parse((await output).split('\n').find((line) => line.startsWith('{')) ?? '{}')
  assert.equal(code, 'ERR_LLAMA_BACKEND_FAILED')
  assert.match(message, /spawn (git|npm) ENOENT$|Executable not found in \$PATH: "git"$/)
  assert.equal(cause, true)
  assert.equal(failures, 4)
  assert.equal(folder.backendMutex.query().held, false)
})

test('without node-llama-cpp the package loads, and getLlama says what to install', async () => {
  await using install = await GateInstall.create({ withNodeLlamaCpp: false })
  const child = install.run(`
    import { LlamaModelGate } from 'os-mutex/llama'
    const error = await new LlamaModelGate().getLlama().catch((error) => error)
    console.log(error.code, error.message)
  `)
  assert.match(await outputOf(child), /^ERR_LLAMA_NOT_INSTALLED .*npm install node-llama-cpp/)
})

async function outputOf(child: ChildProcess): Promise<string> {
  assert.ok(child.stdout)
  const [output] = await Promise.all([text(child.stdout), once(child, 'exit')])
  return output
}
