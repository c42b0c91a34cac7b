// A misspelt option of the gate is refused; what goes to node-llama-cpp or undici is not looked at.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import type { Llama } from 'node-llama-cpp'
import { LlamaModelGate, type ModelSource } from 'os-mutex/llama'
import { Agent } from 'undici/index.js'
import { GateFolder } from '../support/gate-folder.ts'
import { runs } from '../support/properties.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

let folder: GateFolder
let gate: LlamaModelGate
let modelPath: string

before(async () => {
  folder = await GateFolder.create()
  gate = new LlamaModelGate(folder.options)
  modelPath = makeTinyGguf({ path: join(folder.models, 'tiny.gguf') }).path
})

after(() => folder[Symbol.asyncDispose]())

interface Call {
  /** As the message begins. */
  readonly what: string
  readonly code?: string
  /** Valid, all of them. */
  readonly known: Readonly<Record<string, unknown>>
  readonly run: (options: object) => unknown
}

const { signal } = new AbortController()
// All of them together say nothing wrong of a file that is there.
const calls: readonly Call[] = [
  {
    what: 'LlamaModelGate',
    known: {
      modelsDirectory: 'models',
      loadTimeoutMs: 1,
      downloadTimeoutMs: 1,
      extendWhileProgressing: false,
      prefix: 'gate-test',
      deviceLock: false,
      mutexDirectory: 'locks',
    },
    run: (options) => new LlamaModelGate(options),
  },
  {
    what: 'ensureModel()',
    known: {
      onProgress: () => {},
      signal,
      timeoutMs: 1,
      fetch: 'never',
      mirrorTo: undefined,
      connections: 2,
      keepPartial: true,
      dispatcher: new Agent(),
    },
    run: (options) => gate.ensureModel(modelPath, options),
  },
  { what: 'verify()', known: { signal, onBytes: () => {} }, run: (options) => gate.verify(modelPath, options) },
  { what: 'prune()', known: { olderThanMs: 1_000 }, run: (options) => gate.prune(options) },
  {
    what: 'A model source',
    code: 'ERR_MODEL_INVALID_SOURCE',
    known: { sha256: undefined, bytes: undefined, headers: { 'x-any': 'thing' }, fileName: 'tiny.gguf' },
    run: (source) => gate.ensureModel({ url: modelPath, ...source } as ModelSource),
  },
]

/** The message with which the call refuses the options, if it does. */
async function refusal(call: Call, options: object): Promise<string | undefined> {
  try {
    await call.run(options)
    return undefined
  } catch (error) {
    const { code, message } = error as Error & { code?: string }
    assert.equal(code, call.code ?? 'ERR_MUTEX_INVALID_ARGUMENT', message)
    return message
  }
}

test('a misspelt option of the gate is refused, with the name that was probably meant', async () => {
  for (const [what, wrong, meant] of [
    ['LlamaModelGate', 'modelsDir', 'modelsDirectory'],
    ['LlamaModelGate', 'downloadTimeout', 'downloadTimeoutMs'],
    ['LlamaModelGate', 'devicelock', 'deviceLock'],
    ['ensureModel()', 'timeout', 'timeoutMs'],
    ['ensureModel()', 'progress', 'onProgress'],
    ['ensureModel()', 'conections', 'connections'],
    ['verify()', 'onbytes', 'onBytes'],
    ['prune()', 'olderThan', 'olderThanMs'],
    ['A model source', 'sha', 'sha256'],
    ['A model source', 'SHA256', 'sha256'],
    ['A model source', 'filename', 'fileName'],
    ['A model source', 'header', 'headers'],
  ] as const) {
    const call = calls.find((one) => one.what === what)
    assert.ok(call)
    const message = await refusal(call, { [wrong]: 1 })
    assert.ok(
      message?.startsWith(`${what} has no option "${wrong}". Did you mean "${meant}"? Known options: `),
      message,
    )
  }
  await assert.rejects(gate.ensureModel({ uri: modelPath } as never), {
    code: 'ERR_MODEL_INVALID_SOURCE',
    message: /"uri".*"url"/,
  })
})

test('options that are no object are refused by every call of the gate', async () => {
  const llama = {} as Llama
  for (const options of [null, 1, 'x', () => {}] as never[]) {
    const refused = { name: 'TypeError', code: 'ERR_MUTEX_INVALID_ARGUMENT' }
    assert.throws(() => new LlamaModelGate(options), refused)
    await assert.rejects(gate.ensureModel(modelPath, options), refused)
    await assert.rejects(gate.verify(modelPath, options), refused)
    await assert.rejects(gate.prune(options), refused)
    await assert.rejects(gate.loadModel(llama, options), refused)
    await assert.rejects(gate.load(llama, modelPath, options), refused)
    await assert.rejects(gate.getLlama(options), refused)
  }
})

test('what is not ours goes to node-llama-cpp as it is, also where it resembles an option of ours', async () => {
  const got: object[] = []
  // Not the real one, which does not tell what it was given.
  const llama = {
    gpu: false,
    logger: () => {},
    loadModel: async (options: object) => {
      got.push(options)
      return {}
    },
  } as unknown as Llama
  const theirs = { gpuLayers: 0, timeout: 5, onwait: 'theirs', optionOfTomorrow: true }
  await gate.loadModel(llama, { modelPath, timeoutMs: 1_000, ...theirs } as never)
  await gate.load(llama, modelPath, { loadTimeoutMs: 1_000, connections: 1, ...theirs } as never)
  assert.equal(got.length, 2)
  for (const { modelPath: path, onLoadProgress, ...rest } of got as Record<string, unknown>[]) {
    assert.deepEqual(rest, theirs)
    assert.deepEqual([path, typeof onLoadProgress], [modelPath, 'function'])
  }
  await assert.rejects(gate.load(llama, modelPath, { timeoutMs: 1_000 } as never), {
    code: 'ERR_MUTEX_INVALID_ARGUMENT',
    message: /"timeoutMs".*"downloadTimeoutMs" or "loadTimeoutMs"/,
  })
  assert.equal(got.length, 2)
})

test('getLlama looks at its own options only', async () => {
  const options = { gpu: false, build: 'never', skipDownload: true, progressLogs: false, timeout: 5 } as const
  const llama = await gate.getLlama(options as never)
  await llama.dispose()
})

for (const call of calls) {
  test(`${call.what} takes any of its options, and refuses any other by its name`, async () => {
    // One that is undefined is as good as absent.
    const given = Object.entries(call.known).map(([name, value]) => [name, fc.constantFrom(value, undefined)] as const)
    const options = fc.record(Object.fromEntries(given), { requiredKeys: [] })
    const unknown = fc
      .oneof(
        fc.string({ maxLength: 12 }),
        fc.constantFrom('timeout', 'dir', '__proto__', 'constructor', 'toString'),
        fc.constantFrom(...Object.keys(call.known)).chain((name) => fc.constantFrom(`${name}s`, name.toUpperCase())),
      )
      .filter((name) => name !== 'url' && !Object.hasOwn(call.known, name))
    const value = fc.anything().filter((any) => any !== undefined)
    await fc.assert(
      fc.asyncProperty(options, unknown, value, async (some, name, any) => {
        assert.equal(await refusal(call, some), undefined)
        const own = (given: unknown) =>
          Object.defineProperty({ ...some }, name, { value: given, enumerable: true, configurable: true })
        const message = await refusal(call, own(any))
        assert.ok(message?.startsWith(`${call.what} has no option ${JSON.stringify(name)}.`), message)
        assert.equal(await refusal(call, own(undefined)), undefined)
      }),
      runs(100),
    )
  })
}
