// A model that is loaded, here for real by llama.cpp, and another version of it.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { getLlama, type Llama, LlamaCompletion, type LlamaModel } from 'node-llama-cpp'
import { MutexTimeoutError } from 'os-mutex'
import { LlamaModelGate, type ModelProgress } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

let llama: Llama
before(async () => {
  llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false, maxThreads: 1 })
})
after(() => llama.dispose())

async function generate(model: LlamaModel): Promise<string> {
  const context = await model.createContext({ contextSize: 64, batchSize: 64, threads: 1 })
  try {
    const completion = new LlamaCompletion({ contextSequence: context.getSequence() })
    return await completion.generateCompletion('hello', { maxTokens: 4, temperature: 0 })
  } finally {
    await context.dispose()
  }
}

/** A gate with a published model, and another version of it on the server. */
async function openVersions() {
  const folder = await GateFolder.create()
  const server = await ModelServer.start()
  const old = makeTinyGguf({ path: join(folder.path, 'old.gguf'), seed: 1 })
  const next = makeTinyGguf({ path: join(folder.path, 'next.gguf'), seed: 2 })
  const gate = new LlamaModelGate(folder.options)
  const url = server.serve('/a.gguf', old.path)
  const file = await gate.ensureModel(url)
  server.serve('/a.gguf', next.path)
  return {
    folder,
    gate,
    file,
    oldSource: url,
    newSource: { url, sha256: next.sha256 },
    next,
    server,
    [Symbol.asyncDispose]: async () => {
      await server.close()
      await folder[Symbol.asyncDispose]()
    },
  }
}

test('a loaded model answers as before while its file is to be replaced; Windows says that it is in use', async () => {
  await using scene = await openVersions()
  const { gate, file, oldSource, newSource, next } = scene
  const model = await gate.loadModel(llama, { modelPath: file.path, useMmap: true })
  try {
    const said = await generate(model)
    if (process.platform === 'win32') {
      await assert.rejects(gate.ensureModel(newSource), { code: 'ERR_MODEL_FILE_IN_USE', path: file.path })
      assert.equal((await gate.ensureModel(oldSource)).cached, true)
    } else {
      assert.equal((await gate.ensureModel(newSource)).sha256, next.sha256)
    }
    assert.equal(await generate(model), said)
  } finally {
    await model.dispose()
  }
  assert.equal((await gate.ensureModel(newSource)).sha256, next.sha256)
})

test('who replaces a file waits for whoever loads it, tells that, and gives up in time without losing a byte', async () => {
  await using scene = await openVersions()
  const { folder, gate, file, oldSource, newSource, next, server } = scene
  const waits: ModelProgress[] = []
  const onProgress = (progress: ModelProgress) => void (progress.phase === 'waiting' && waits.push(progress))
  {
    using loading = await folder.mutex('Model', file.path).acquire({ purpose: 'load a.gguf' })
    await assert.rejects(gate.ensureModel(newSource, { onProgress, timeoutMs: 1500 }), (error) => {
      assert.ok(error instanceof MutexTimeoutError)
      assert.equal(error.owner?.pid, process.pid)
      assert.match(error.message, /to replace .*a\.gguf, which is being loaded.*load a\.gguf/)
      return true
    })
    assert.ok(waits.length > 0)
    for (const { done, total } of waits) assert.deepEqual([done, total], [next.bytes, next.bytes])
    assert.equal((await gate.ensureModel(oldSource)).sha256, file.sha256)

    // The load moves on, and whoever waits for the download waits for it, too.
    waits.length = 0
    const asked = server.requests('/a.gguf').length
    const replaced = gate.ensureModel(newSource, { timeoutMs: 1500 })
    const behind = gate.ensureModel(newSource, { timeoutMs: 1500, onProgress })
    for (let percent = 1; percent <= 30; percent++) {
      loading.report({ done: percent, total: 100, unit: '%' })
      await delay(100)
    }
    loading.release()
    for (const { sha256 } of await Promise.all([replaced, behind])) assert.equal(sha256, next.sha256)
    for (const { done, total } of waits) assert.ok(total === undefined || (total === next.bytes && done <= total))
    const ranges = server
      .requests('/a.gguf')
      .slice(asked)
      .map(({ headers }) => headers.range)
    assert.deepEqual(ranges, [])
  }
})

test('a gate that does not wait for other downloads still waits for whoever loads the file', async () => {
  await using scene = await openVersions()
  const { folder, file, newSource, next } = scene
  const gate = new LlamaModelGate({ ...folder.options, downloadTimeoutMs: 0 })
  const loading = await folder.mutex('Model', file.path).acquire()
  const replaced = await new Promise<{ file: Promise<{ sha256?: string | undefined }> }>((resolve) => {
    const onProgress = ({ phase }: ModelProgress) => void (phase === 'waiting' && resolve({ file: call }))
    const call = gate.ensureModel(newSource, { onProgress })
    call.catch(() => resolve({ file: call }))
  })
  loading.release()
  assert.equal((await replaced.file).sha256, next.sha256)
})
