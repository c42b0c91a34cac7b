// A model that is loaded, here for real by llama.cpp, and another version of it.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { getLlama, type Llama, LlamaCompletion, type LlamaModel } from 'node-llama-cpp'
import { LlamaModelGate, ModelDownloadError } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'
import { onWindows } from '../support/win32/foreign.ts'

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

test('the error about a file in use names the process that is loading it', onWindows, async () => {
  await using scene = await openVersions()
  const { folder, gate, file, newSource } = scene
  const model = await gate.loadModel(llama, { modelPath: file.path, useMmap: true })
  try {
    using _loading = await folder.mutex('Model', file.path).acquire({ purpose: 'load a.gguf' })
    await assert.rejects(gate.ensureModel(newSource), (error) => {
      assert.ok(error instanceof ModelDownloadError)
      assert.equal(error.code, 'ERR_MODEL_FILE_IN_USE')
      assert.equal(error.owner?.pid, process.pid)
      assert.match(error.message, new RegExp(`being loaded by .*pid ${process.pid}.*load a\\.gguf`))
      assert.ok(error.cause instanceof Error)
      return true
    })
  } finally {
    await model.dispose()
  }
})
