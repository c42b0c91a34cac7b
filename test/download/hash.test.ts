// The hash of a large file is made on a thread of its own, where one can be had.
import assert from 'node:assert/strict'
import { syncBuiltinESMExports } from 'node:module'
import { test } from 'node:test'
import threads from 'node:worker_threads'
import { openDownloadFolder, published, sha256Of } from '../support/download-folder.ts'
import { downloadFile, resolveSource, verifyPublished } from '../support/download-internals.ts'
import { withReplacedBuiltins } from '../support/runtimes.ts'

const MiB = 1024 * 1024

/** Runs `work` with every new thread made by `Substitute`. Tells how many were asked for. */
async function withThreads(Substitute: typeof threads.Worker, work: () => Promise<void>): Promise<void> {
  const { Worker } = threads
  threads.Worker = Substitute
  syncBuiltinESMExports()
  try {
    await work()
  } finally {
    threads.Worker = Worker
    syncBuiltinESMExports()
  }
}

let asked = 0

class NoThread extends threads.Worker {
  constructor() {
    asked++
    throw new Error('there are no threads here')
    // biome-ignore lint/correctness/noUnreachable: a class that extends another has to call it
    super('')
  }
}

/** As where a bundler has left the thread's module out. */
class NoModule extends threads.Worker {
  constructor(_: unknown, options?: threads.WorkerOptions) {
    asked++
    super(new URL('./no-such-module.js', import.meta.url), options)
  }
}

for (const [title, Substitute] of [
  ['no thread can be started', NoThread],
  ["the thread's module is missing", NoModule],
] as const) {
  test(`where ${title}, a large file is hashed all the same`, withReplacedBuiltins, async (t) => {
    const { server, destination, payload, list } = await openDownloadFolder(t)
    const file = payload(20 * MiB)
    const source = resolveSource({ url: server.serve('/model.gguf', file.path), sha256: file.sha256 })
    asked = 0
    await withThreads(Substitute as typeof threads.Worker, async () => {
      const model = await downloadFile({ source, destination })
      assert.equal(model.sha256, file.sha256)
      assert.equal((await verifyPublished(destination)).verdict, 'intact')
    })
    assert.equal(asked, 2)
    assert.equal(sha256Of(destination), file.sha256)
    assert.deepEqual(list(), published)
  })
}

test('an abort ends the hashing of a large file', async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t)
  const file = payload(20 * MiB)
  await downloadFile({ source: resolveSource(server.serve('/model.gguf', file.path)), destination })
  const controller = new AbortController()
  const reason = new Error('enough')
  const verifying = verifyPublished(destination, { signal: controller.signal })
  controller.abort(reason)
  await assert.rejects(verifying, (error) => error === reason)
})
