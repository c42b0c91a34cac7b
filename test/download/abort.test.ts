import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { openDownloadFolder, partialsIn, published, sha256Of, until } from '../support/download-folder.ts'
import { downloadFile, resolveSource } from '../support/download-internals.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'
const reason = new Error('the user went away')

/** Aborts and proves that the download ends with the reason, soon. */
async function abortEnds(controller: AbortController, download: Promise<unknown>): Promise<void> {
  const begun = performance.now()
  controller.abort(reason)
  await assert.rejects(download, (error) => error === reason)
  const tookMs = performance.now() - begun
  // Some milliseconds on an idle machine. What it must not wait for takes 30 s and more: a stalled server, the next try.
  assert.ok(tookMs < 5_000, `settled after ${tookMs} ms`)
}

test("an abort in mid-transfer gives the signal's reason, and the next download resumes", async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const file = payload(2 * MiB)
  const source = resolveSource(server.serve(path, file.path))
  server.pause(path, MiB)
  const controller = new AbortController()
  const download = downloadFile({ source, destination, signal: controller.signal })
  download.catch(() => {})
  await until(() => partialsIn(models)[0]?.bytes === MiB)
  await abortEnds(controller, download)
  assert.equal(partialsIn(models)[0]?.isHeld, false)
  assert.ok(!existsSync(destination))
  server.resume(path)
  const model = await downloadFile({ source, destination })
  assert.equal(model.resumedBytes, MiB)
  assert.equal(sha256Of(destination), file.sha256)
  assert.deepEqual(list(), published)
})

test('an abort before the answer, between tries and before the start leaves nothing', async (t) => {
  const { server, destination, payload, list } = await openDownloadFolder(t)
  const source = resolveSource(server.serve(path, payload(MiB).path))
  for (const fault of [{ kind: 'silent' }, { kind: 'status', status: 503 }] as const) {
    server.fault(path, fault)
    const before = server.requests(path).length
    const controller = new AbortController()
    const options = { source, destination, signal: controller.signal, retryDelaysMs: [60_000] }
    const download = downloadFile(options)
    download.catch(() => {})
    await server.requested(path, before + 1)
    if (fault.kind === 'status') await server.idle(path)
    await abortEnds(controller, download)
    assert.deepEqual(list(), [])
  }
  await assert.rejects(
    downloadFile({ source, destination, signal: AbortSignal.abort(reason) }),
    (error) => error === reason,
  )
})

test('an abort while nobody answers the connection ends at once', { timeout: 10_000 }, async (t) => {
  const { destination } = await openDownloadFolder(t)
  // A listener whose queue is full swallows further connection attempts.
  const deaf = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 })
  await once(deaf, 'listening')
  t.after(() => deaf.close())
  const source = resolveSource(`https://127.0.0.1:${(deaf.address() as AddressInfo).port}/model.gguf`)
  const controller = new AbortController()
  const connected = once(deaf, 'connection') as Promise<[Socket]>
  const download = downloadFile({ source, destination, signal: controller.signal })
  download.catch(() => {})
  // The TLS handshake waits for ever.
  const [peer] = await connected
  const hungUp = once(peer, 'close')
  peer.resume()
  await abortEnds(controller, download)
  // Nothing keeps the process alive afterwards.
  await hungUp
})

test('an abort while the bytes are hashed keeps the partial, and its next download fetches one byte', async (t) => {
  const { server, models, destination, payload } = await openDownloadFolder(t)
  const file = payload(64 * MiB)
  const source = resolveSource(server.serve(path, file.path))
  const controller = new AbortController()
  let begun = 0
  const download = downloadFile({
    source,
    destination,
    signal: controller.signal,
    onProgress: ({ phase }) => {
      if (phase !== 'verifying' || begun) return
      begun = performance.now()
      controller.abort(reason)
    },
  })
  await assert.rejects(download, (error) => error === reason)
  assert.ok(performance.now() - begun < 5_000)
  const [partial, ...others] = partialsIn(models)
  assert.deepEqual([partial?.bytes, partial?.isHeld, others.length], [64 * MiB, false, 0])
  const model = await downloadFile({ source, destination })
  assert.deepEqual([model.resumedBytes, model.downloadedBytes], [64 * MiB - 1, 1])
  assert.equal(model.sha256, file.sha256)
})
