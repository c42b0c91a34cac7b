// A queue of loads: each load that makes progress keeps those behind it patient. Which loads lock the GPU.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { LlamaModelGate, type LlamaModelGateOptions } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { StubLlama } from '../support/stub-llama.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const LIMIT_MS = 600
/** A load that takes half the limit and reports all the time. */
const STEPS = 15
const slow = () =>
  new StubLlama({
    load: async ({ onLoadProgress }) => {
      for (let step = 1; step <= STEPS; step++) {
        await delay(LIMIT_MS / 2 / STEPS)
        onLoadProgress?.(step / STEPS)
      }
      return {}
    },
  })

/** A promise, and what resolves it. */
function gateway(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = () => {}
  const promise = new Promise<void>((open) => {
    resolve = open
  })
  return { promise, resolve }
}

async function queue(folder: GateFolder, options: LlamaModelGateOptions): Promise<PromiseSettledResult<unknown>[]> {
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  const gates = Array.from({ length: 6 }, () => new LlamaModelGate({ ...folder.options, ...options }))
  return Promise.allSettled(gates.map((gate) => gate.loadModel(slow().llama, { modelPath: path })))
}

test('six loads of half the limit each all succeed, one after the other', async () => {
  await using folder = await GateFolder.create()
  const results = await queue(folder, { loadTimeoutMs: LIMIT_MS })
  assert.deepEqual([...new Set(results.map(({ status }) => status))], ['fulfilled'])
})

test('with extendWhileProgressing: false the last of them give up', async () => {
  await using folder = await GateFolder.create()
  const results = await queue(folder, { loadTimeoutMs: LIMIT_MS, extendWhileProgressing: false })
  const codes = results.flatMap((result) => (result.status === 'rejected' ? [result.reason.code] : []))
  assert.ok(codes.length > 0 && codes.length < 6, `${codes.length} gave up`)
  assert.deepEqual([...new Set(codes)], ['ERR_MUTEX_TIMEOUT'])
})

test('a load that waits for the GPU passes on the progress of the owner ahead to those behind it', async () => {
  await using folder = await GateFolder.create()
  const [x, y] = ['x.gguf', 'y.gguf'].map((name) => makeTinyGguf({ path: join(folder.models, name) }).path)
  const options = { ...folder.options, deviceLock: true, loadTimeoutMs: LIMIT_MS }
  const gate = () => new LlamaModelGate(options)
  const [ahead, begun] = [gateway(), gateway()]
  let report: (fraction: number) => void = () => {}
  const first = gate().loadModel(
    new StubLlama({
      load: async ({ onLoadProgress }) => {
        report = (fraction) => onLoadProgress?.(fraction)
        report(0.01)
        begun.resolve()
        await ahead.promise
        return {}
      },
    }).llama,
    { modelPath: x ?? '' },
  )
  await begun.promise
  const second = gateway()
  const middle = gate().loadModel(new StubLlama({ load: async () => ({}) }).llama, {
    modelPath: y ?? '',
    onWait: () => second.resolve(),
  })
  await second.promise
  const third = gateway()
  const last = gate().loadModel(new StubLlama({ load: async () => ({}) }).llama, {
    modelPath: y ?? '',
    onWait: () => third.resolve(),
  })
  await third.promise
  // Three times the limit.
  for (let step = 2; step <= 20; step++) {
    await delay((LIMIT_MS * 3) / 20)
    report(step / 100)
  }
  const { owner } = folder.mutex('Model', y ?? '').query()
  assert.deepEqual([owner?.progress?.total, owner?.progress?.unit], [100, '%'])
  ahead.resolve()
  await Promise.all([first, middle, last])
})

test('a load reports at most ten times a second, and to a hundredth of a percent', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  const mutex = folder.mutex('Model', path)
  const startedAt = performance.now()
  const reports = new Map<number | undefined, number | undefined>()
  const { llama } = new StubLlama({
    load: async ({ onLoadProgress }) => {
      for (let step = 1; step <= 300; step++) {
        onLoadProgress?.(step / 30_000)
        const { progress } = mutex.query().owner ?? {}
        reports.set(progress?.sequence, progress?.done)
        await delay(1)
      }
      return {}
    },
  })
  await new LlamaModelGate(folder.options).loadModel(llama, { modelPath: path })
  const most = (performance.now() - startedAt) / 100 + 1
  assert.ok(reports.size >= 2 && reports.size <= most, `${reports.size} reports`)
  assert.deepEqual([...reports.values()].slice(0, 1), [0])
  assert.ok([...reports.values()].some((done = 0) => done > 0 && done < 1))
})

test('gpuLayers: 0 waits for no GPU; any other number does', async () => {
  await using folder = await GateFolder.create()
  const { path } = makeTinyGguf({ path: join(folder.models, 'a.gguf') })
  const gate = new LlamaModelGate({ ...folder.options, loadTimeoutMs: 0 })
  const { llama } = new StubLlama({ load: async () => ({}), gpus: ['Radeon'] })
  using _device = await folder.mutex('Device', 'Radeon').acquire()
  await gate.loadModel(llama, { modelPath: path, gpuLayers: 0 })
  for (const gpuLayers of [undefined, 'auto', 'max', 1, { max: 0 }] as const) {
    const options = gpuLayers === undefined ? { modelPath: path } : { modelPath: path, gpuLayers }
    await assert.rejects(gate.loadModel(llama, options), { code: 'ERR_MUTEX_TIMEOUT' }, JSON.stringify(gpuLayers))
  }
})
