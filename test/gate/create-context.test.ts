// createContext: one estimate-and-create per GPU at a time on the machine, in one queue with the loads.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import {
  getLlama,
  InsufficientMemoryError,
  type Llama,
  LlamaCompletion,
  type LlamaContextOptions,
  type LlamaModel,
} from 'node-llama-cpp'
import { type CreateContextOptions, LlamaContextError, LlamaModelGate } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { GateProcess } from '../support/gate-process.ts'
import { StubLlama } from '../support/stub-llama.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const small = { contextSize: 64, batchSize: 64, threads: 1 }
let llama: Llama
let folder: GateFolder
let model: LlamaModel
/** Locks the CPU in place of a GPU. */
let gate: LlamaModelGate

before(async () => {
  llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false, maxThreads: 1 })
  folder = await GateFolder.create()
  gate = new LlamaModelGate({ ...folder.options, deviceLock: true })
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  model = await gate.loadModel(llama, { modelPath: path })
})

after(async () => {
  await llama.dispose()
  await folder[Symbol.asyncDispose]()
})

const device = () => folder.mutex('Device', 'cpu')

/** A model whose contexts are made by `create`. */
function stubModel(create: (options: LlamaContextOptions) => Promise<object>, gpus?: readonly string[]): LlamaModel {
  const { llama } = new StubLlama({ load: async () => ({}), ...(gpus && { gpus }) })
  return { filename: 'stub.gguf', llama, createContext: create } as unknown as LlamaModel
}

test('a context waits for its turn on the device, and works', async () => {
  const holder = await device().acquire({ purpose: 'test' })
  const waits: (number | undefined)[] = []
  const creating = gate.createContext(model, {
    ...small,
    onWait: (owner) => {
      waits.push(owner?.pid)
      setImmediate(() => holder.release())
    },
  })
  const context = await creating
  assert.deepEqual(waits, [process.pid])
  assert.equal(device().query().held, false)
  const completion = new LlamaCompletion({ contextSequence: context.getSequence() })
  await completion.generateCompletion('hello', { maxTokens: 2 })
  await context.dispose()
})

test('the device is held while the context is created, and its record says by whom and why', async () => {
  const seen: unknown[] = []
  const stub = stubModel(async () => {
    const { owner } = device().query()
    seen.push(owner?.pid, owner?.purpose, owner?.progress?.done, owner?.progress?.total, owner?.progress?.unit)
    return {}
  })
  await gate.createContext(stub)
  assert.deepEqual(seen, [process.pid, 'create a context of stub.gguf', 0, 1, 'contexts'])
  assert.equal(device().query().held, false)
})

test('it gets all options of node-llama-cpp, and none of ours', async () => {
  const got: object[] = []
  const stub = stubModel(async (options) => got.push(options) && {})
  const { signal } = new AbortController()
  const theirs = { ...small, createSignal: signal, timeout: 5, optionOfTomorrow: true }
  await gate.createContext(stub, { ...theirs, timeoutMs: 1000, onWait: () => {} } as CreateContextOptions)
  assert.deepEqual(got, [theirs])
})

test('a process that loads and one that creates a context wait for each other, also when the first one dies', async () => {
  await using child = await GateProcess.start({ ...folder.options, deviceLock: true })
  const other = makeTinyGguf({ path: join(folder.models, 'b.gguf'), bytes: 8 * 1024 * 1024 })
  child.loadModel({ modelPath: other.path, useMmap: false }, 'load')
  await child.frozen()
  const waits: (number | undefined)[] = []
  const context = await gate.createContext(model, {
    ...small,
    onWait: (owner) => {
      waits.push(owner?.pid)
      void child.kill()
    },
  })
  assert.deepEqual(waits, [child.pid])
  await context.dispose()
})

test('a wait that takes too long says who holds the device', async () => {
  using _holder = await device().acquire({ purpose: 'train a model' })
  const startedAt = performance.now()
  await assert.rejects(gate.createContext(model, { ...small, timeoutMs: 50 }), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'ERR_MUTEX_TIMEOUT')
    for (const part of ['create a context of a.gguf', `pid ${process.pid}`, 'train a model', 'timeoutMs']) {
      assert.ok(error.message.includes(part), error.message)
    }
    return true
  })
  assert.ok(performance.now() - startedAt >= 49)
})

test('createSignal ends the wait', async () => {
  using _holder = await device().acquire()
  const controller = new AbortController()
  const reason = new Error('enough')
  const creating = gate.createContext(model, {
    ...small,
    createSignal: controller.signal,
    onWait: () => controller.abort(reason),
  })
  await assert.rejects(creating, (error) => error === reason)
  await assert.rejects(gate.createContext(model, { createSignal: controller.signal }), (error) => error === reason)
})

test('createSignal ends the creation with its reason, and the device is free again', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const stub = stubModel(async ({ createSignal }) => {
    controller.abort(reason)
    throw createSignal?.reason
  })
  await assert.rejects(gate.createContext(stub, { createSignal: controller.signal }), (error) => error === reason)
  assert.equal(device().query().held, false)
})

test('what cannot be created is one error with a code, a reason and what to do, and the device is free again', async () => {
  for (const [cause, code] of [
    [new InsufficientMemoryError('too large for the available VRAM'), 'ERR_LLAMA_CONTEXT_NO_MEMORY'],
    [new Error('something else'), 'ERR_LLAMA_CONTEXT_FAILED'],
  ] as const) {
    const stub = stubModel(() => Promise.reject(cause))
    await assert.rejects(gate.createContext(stub), (error) => {
      assert.ok(error instanceof LlamaContextError)
      assert.deepEqual([error.code, error.reason, error.cause], [code, cause.message, cause])
      assert.ok(error.message.includes(cause.message) && error.message.includes('stub.gguf'), error.message)
      assert.match(error.message, /contextSize/)
      return true
    })
  }
  const { path } = makeTinyGguf({ path: join(folder.models, 'gone.gguf') })
  const gone = await gate.loadModel(llama, { modelPath: path })
  await gone.dispose()
  await assert.rejects(gate.createContext(gone, small), { code: 'ERR_LLAMA_CONTEXT_FAILED' })
  assert.equal(device().query().held, false)
})

test('the GPU is locked where there is one, and nothing without one or with deviceLock: false', async () => {
  using _holder = await folder.mutex('Device', 'Radeon').acquire()
  using _cpu = await device().acquire()
  const make = async () => ({})
  const auto = new LlamaModelGate({ ...folder.options, loadTimeoutMs: 0 })
  await assert.rejects(auto.createContext(stubModel(make, ['GeForce', 'Radeon'])), { code: 'ERR_MUTEX_TIMEOUT' })
  assert.equal(folder.mutex('Device', 'GeForce').query().held, false)
  await auto.createContext(stubModel(make))
  await new LlamaModelGate({ ...folder.options, deviceLock: false }).createContext(stubModel(make, ['Radeon']))
})

test('options that are wrong are refused', async () => {
  for (const options of [null, 1, 'x', { timeoutMs: -1 }, { timeoutMs: '1' }] as never[]) {
    await assert.rejects(gate.createContext(model, options), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
  }
})
