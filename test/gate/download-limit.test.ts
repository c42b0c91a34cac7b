// ensureModel: how long a waiter waits is counted from the owner's last progress.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { LlamaModelGate } from 'os-mutex/llama'
import { GateFolder } from '../support/gate-folder.ts'
import { GateProcess } from '../support/gate-process.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const LIMIT_MS = 1000
const MODEL_BYTES = 2 * 1024 * 1024
/** Makes the download take about four times the limit. */
const SLOW = { bytesPerSecond: MODEL_BYTES / 4 }

async function startOwner(folder: GateFolder, url: string) {
  const owner = await GateProcess.start(folder.options)
  const call = owner.ensureModel(url)
  await call.seenProgress(({ phase }) => phase === 'downloading')
  return { owner, call }
}

test('a download that stands still is given up after the limit, and the error says whose it is', async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start()
  const model = makeTinyGguf({ path: join(folder.path, 'source.gguf'), bytes: MODEL_BYTES })
  const url = server.serve('/a.gguf', model.path)
  server.pause('/a.gguf', MODEL_BYTES / 2)
  const { owner, call } = await startOwner(folder, url)
  await using _owner = owner

  const gate = new LlamaModelGate({ ...folder.options, downloadTimeoutMs: LIMIT_MS })
  const startedAt = performance.now()
  await assert.rejects(gate.ensureModel(url), (error: Error & Record<string, unknown>) => {
    assert.equal(error.code, 'ERR_MUTEX_TIMEOUT')
    assert.equal((error.owner as { pid: number }).pid, owner.pid)
    for (const part of [join(folder.models, 'a.gguf'), `${owner.pid}`, 'download a.gguf', 'downloadTimeoutMs']) {
      assert.ok(error.message.includes(part), error.message)
    }
    return true
  })
  assert.ok(performance.now() - startedAt >= LIMIT_MS * 0.99)

  server.resume('/a.gguf')
  assert.equal((await call.result).sha256, model.sha256)
  assert.equal((await gate.ensureModel(url)).cached, true)
})

test('a slow download that gets on is waited for, however long it takes', async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start(SLOW)
  const model = makeTinyGguf({ path: join(folder.path, 'source.gguf'), bytes: MODEL_BYTES })
  const url = server.serve('/a.gguf', model.path)
  const { owner } = await startOwner(folder, url)
  await using _owner = owner

  const gate = new LlamaModelGate({ ...folder.options, downloadTimeoutMs: LIMIT_MS })
  const startedAt = performance.now()
  assert.equal((await gate.ensureModel(url)).sha256, model.sha256)
  assert.ok(performance.now() - startedAt > LIMIT_MS * 1.5, 'the download was to outlast the limit')
  assert.equal(server.bytesServed('/a.gguf'), model.bytes)
})

test('with extendWhileProgressing: false the limit runs from the start of the wait', async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start(SLOW)
  const model = makeTinyGguf({ path: join(folder.path, 'source.gguf'), bytes: MODEL_BYTES })
  const url = server.serve('/a.gguf', model.path)
  const { owner, call } = await startOwner(folder, url)
  await using _owner = owner

  const options = { ...folder.options, downloadTimeoutMs: LIMIT_MS, extendWhileProgressing: false }
  await assert.rejects(new LlamaModelGate(options).ensureModel(url), { code: 'ERR_MUTEX_TIMEOUT' })
  const last = call.progress.at(-1)
  assert.ok(last !== undefined && last.done < model.bytes, 'the download was to be under way still')
})

test('a new owner alone does not start the limit again', async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start()
  const model = makeTinyGguf({ path: join(folder.path, 'source.gguf'), bytes: MODEL_BYTES })
  const url = server.serve('/a.gguf', model.path)
  server.pause('/a.gguf')
  await using next = await GateProcess.start(folder.options)
  await using last = await GateProcess.start({ ...folder.options, downloadTimeoutMs: LIMIT_MS })

  // The queue: this process, then `next`, which gets no byte, then `last`.
  const held = await folder.mutex('Download', join(folder.models, 'a.gguf')).acquire()
  const nextCall = next.ensureModel(url)
  await nextCall.seenProgress(({ phase }) => phase === 'waiting')
  const lastCall = last.ensureModel(url)
  await lastCall.seenProgress(({ phase }) => phase === 'waiting')
  const startedAt = performance.now()
  await delay(LIMIT_MS * 0.6)
  held.release()
  await nextCall.seenProgress(({ phase }) => phase === 'resolving')

  await assert.rejects(lastCall.result, { code: 'ERR_MUTEX_TIMEOUT' })
  const waitedMs = performance.now() - startedAt
  assert.ok(waitedMs < LIMIT_MS * 1.5, `it took ${waitedMs} ms`)
})

test('a limit of 0 tries once', async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start()
  const model = makeTinyGguf({ path: join(folder.path, 'source.gguf'), bytes: MODEL_BYTES })
  const url = server.serve('/a.gguf', model.path)
  const gate = new LlamaModelGate({ ...folder.options, downloadTimeoutMs: 0 })
  const held = await folder.mutex('Download', join(folder.models, 'a.gguf')).acquire()
  await assert.rejects(gate.ensureModel(url), { code: 'ERR_MUTEX_TIMEOUT' })
  held.release()
  assert.equal((await gate.ensureModel(url)).sha256, model.sha256)
})
