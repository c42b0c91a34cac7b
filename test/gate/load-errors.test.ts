// loadModel: what cannot be loaded fails with one clear error, and leaves no lock held.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { getLlama, type Llama, LlamaLogLevel } from 'node-llama-cpp'
import { LlamaModelGate, ModelLoadError } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { canDisposeLlama } from '../support/runtimes.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const logged: string[] = []
const logger = (_level: LlamaLogLevel, message: string) => void logged.push(message)
let llama: Llama
let folder: GateFolder
let gate: LlamaModelGate

before(async () => {
  // One instance for all tests: node-llama-cpp logs to one instance a process.
  llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false, maxThreads: 1, logger })
  folder = await GateFolder.create()
  gate = new LlamaModelGate(folder.options)
})

after(async () => {
  if (canDisposeLlama) await llama.dispose()
  await folder[Symbol.asyncDispose]()
})

async function file(name: string, content: string | Uint8Array): Promise<string> {
  const path = join(folder.models, name)
  await writeFile(path, content)
  return path
}

/** A model that llama.cpp cannot load, for a reason that only its log tells. */
async function withoutTensor(name: string, tensor: string): Promise<string> {
  const { path } = makeTinyGguf({ path: join(folder.models, `${name}.whole.gguf`) })
  const content = (await readFile(path)).toString('latin1')
  assert.ok(content.includes(tensor))
  return file(name, Buffer.from(content.replace(tensor, tensor.toUpperCase()), 'latin1'))
}

async function failure(modelPath: string): Promise<ModelLoadError> {
  const error: unknown = await gate.loadModel(llama, { modelPath }).then(
    () => assert.fail(`${modelPath} was loaded`),
    (error) => error,
  )
  assert.ok(error instanceof ModelLoadError, String(error))
  assert.equal(error.path, modelPath)
  assert.ok(error.message.includes(modelPath), error.message)
  return error
}

for (const [title, make, code] of [
  ['a missing file', async () => join(folder.models, 'missing.gguf'), 'ERR_MODEL_NOT_FOUND'],
  ['a path through a file', async () => join(await file('f', ''), 'a.gguf'), 'ERR_MODEL_NOT_FOUND'],
  ['a folder', () => mkdtemp(join(folder.models, 'folder-')), 'ERR_MODEL_NOT_READABLE'],
  ['an empty file', () => file('empty.gguf', ''), 'ERR_MODEL_NOT_GGUF'],
  ['a web page', () => file('page.gguf', '<!doctype html><title>Sign in</title>'), 'ERR_MODEL_NOT_GGUF'],
  ['the first bytes of a model', () => file('head.gguf', 'GGUF\x03\0\0\0'), 'ERR_MODEL_NOT_GGUF'],
  [
    'a header with nothing behind it',
    () => file('hollow.gguf', `GGUF\x03${'\0'.repeat(200)}`),
    'ERR_MODEL_LOAD_FAILED',
  ],
] as const) {
  test(`${title} is refused with ${code}`, async () => {
    const path = await make()
    const error = await failure(path)
    assert.equal(error.code, code)
    assert.equal(folder.mutex('Model', path).query().held, false)
  })
}

test('a model cut short is told so, in the words that llama.cpp only logs', async () => {
  const { path } = makeTinyGguf({ path: join(folder.models, 'whole.gguf') })
  const cut = await file('cut.gguf', (await readFile(path)).subarray(0, 800_000))
  // Often, since the words may arrive before or after the failure.
  for (let load = 0; load < 20; load++) {
    const error = await failure(cut)
    assert.equal(error.code, 'ERR_MODEL_LOAD_FAILED')
    assert.match(error.reason ?? '', /not within the file bounds/)
    assert.match(error.message, /not within the file bounds/)
    assert.match((error.cause as Error).message, /Failed to load model/)
  }
  assert.equal(folder.mutex('Model', cut).query().held, false)
})

test('the logger hears what it always heard, and is put back', async () => {
  logged.length = 0
  await failure(await withoutTensor('logged.gguf', 'blk.0.attn_q.weight'))
  assert.ok(
    logged.some((line) => line.includes('blk.0.attn_q.weight')),
    logged.join('\n'),
  )
  assert.equal(llama.logger, logger)
})

test('a silenced instance stays silent and yet the reason is known', async () => {
  const path = await withoutTensor('silent.gguf', 'blk.1.attn_q.weight')
  llama.logLevel = LlamaLogLevel.disabled
  logged.length = 0
  try {
    assert.match((await failure(path)).message, /blk\.1\.attn_q\.weight/)
    assert.deepEqual(logged, [])
    assert.equal(llama.logLevel, LlamaLogLevel.disabled)
  } finally {
    llama.logLevel = LlamaLogLevel.warn
  }
})

test('loads that fail at the same time on one instance each get their own reason', async () => {
  const good = makeTinyGguf({ path: join(folder.models, 'good.gguf') }).path
  const tensors = ['blk.0.attn_k.weight', 'blk.1.attn_k.weight', 'blk.2.attn_k.weight']
  const paths = await Promise.all(tensors.map((tensor, index) => withoutTensor(`many-${index}.gguf`, tensor)))
  const hollow = await file('many-hollow.gguf', `GGUF\x03${'\0'.repeat(200)}`)
  // Nothing is logged about this one, so it waits for its lines longest; those of the others are not its reason.
  const [model, silent, ...errors] = await Promise.all([
    gate.loadModel(llama, { modelPath: good }),
    ...[hollow, ...paths].map(failure),
  ])
  await model.dispose()
  assert.doesNotMatch(silent?.reason ?? '', /tensor/)
  for (const [index, error] of errors.entries()) assert.match(error.reason ?? '', new RegExp(tensors[index] ?? ''))
  assert.equal(llama.logger, logger)
})

test('a logger set in the middle of a load stays', async () => {
  const { path } = makeTinyGguf({ path: join(folder.models, 'relogged.gguf'), bytes: 64 * 1024 * 1024 })
  const other = () => {}
  let calls = 0
  const onLoadProgress = () => {
    calls++
    if (calls === 1) llama.logger = other
  }
  try {
    const model = await gate.loadModel(llama, { modelPath: path, useMmap: false, onLoadProgress })
    assert.ok(calls > 0)
    await model.dispose()
    assert.equal(llama.logger, other)
  } finally {
    llama.logger = logger
  }
})

for (const timeoutMs of [-1, Number.NaN, '1' as unknown as number]) {
  test(`a time limit of ${JSON.stringify(timeoutMs)} (${typeof timeoutMs}) is refused`, async () => {
    const modelPath = join(folder.models, 'missing.gguf')
    await assert.rejects(gate.loadModel(llama, { modelPath, timeoutMs }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    await assert.rejects(gate.ensureModel('http://localhost/a.gguf', { timeoutMs }), {
      code: 'ERR_MUTEX_INVALID_ARGUMENT',
    })
    assert.throws(() => new LlamaModelGate({ loadTimeoutMs: timeoutMs }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
    assert.throws(() => new LlamaModelGate({ downloadTimeoutMs: timeoutMs }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
  })
}
