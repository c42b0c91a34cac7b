// Windows: a file that somebody has open cannot be replaced. (Elsewhere it can, and publish.test.ts says so.)
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { openDownloadFolder, partialsIn, published, sha256Of, until } from '../support/download-folder.ts'
import { downloadFile, findPublished, resolveSource, win32Files } from '../support/download-internals.ts'
import { Foreign, onWindows } from '../support/win32/foreign.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'

/**
 * A published file, another version of it on the server, and a program that has the published one open for itself alone. That
 * is to be ended by the test itself: the folder cannot be removed before.
 */
async function openInUse(t: TestContext) {
  const folder = await openDownloadFolder(t)
  const { server, models, destination } = folder
  const [before, after] = [folder.payload(MiB), folder.payload(2 * MiB)]
  const url = server.serve(path, before.path)
  await downloadFile({ source: resolveSource(url), destination })
  server.serve('/new.gguf', after.path)
  const source = resolveSource({ url: `${server.origin}/new.gguf`, sha256: after.sha256, bytes: after.bytes })
  const scanner = new Foreign('monopolise', destination)
  await scanner.says('made')
  const manifest = `${models}/.model.gguf.os-mutex.json`
  /** The step before the file's own: from here on the download tries to replace it. */
  const replacing = () => until(() => existsSync(manifest) && readFileSync(manifest, 'utf8').includes(after.sha256))
  return { ...folder, before, after, oldSource: resolveSource(url), source, scanner, replacing }
}

test('a file that a scanner has open for a moment is replaced when it is done', onWindows, async (t) => {
  const { source, destination, after, scanner: holder, replacing, list } = await openInUse(t)
  await using scanner = holder
  const download = downloadFile({ source, destination, replace: true })
  await replacing()
  await scanner.letGo()
  assert.equal((await download).sha256, after.sha256)
  assert.equal(sha256Of(destination), after.sha256)
  assert.deepEqual(list(), published)
})

test(
  'a file that stays in use is told so, all stays as it was, and the next call publishes what was received',
  onWindows,
  async (t) => {
    const { server, models, source, oldSource, destination, before, after, scanner: holder, list } = await openInUse(t)
    await using scanner = holder
    await assert.rejects(
      downloadFile({ source, destination, replace: true }),
      (error: Error & Record<string, unknown>) => {
        assert.equal(error.code, 'ERR_MODEL_FILE_IN_USE')
        assert.equal(error.path, destination)
        assert.ok(error.message.includes(destination) && /in use.*kept/.test(error.message), error.message)
        assert.match((error.cause as NodeJS.ErrnoException).code ?? '', /^(EPERM|EACCES|EBUSY)$/)
        return true
      },
    )
    assert.equal((await findPublished(destination, oldSource))?.sha256, before.sha256)
    const [partial, ...others] = partialsIn(models)
    assert.deepEqual([partial?.bytes, partial?.isHeld, others.length], [after.bytes, false, 0])
    await scanner.letGo()
    assert.equal(sha256Of(destination), before.sha256)
    const model = await downloadFile({ source, destination, replace: true })
    assert.equal(model.resumedBytes, after.bytes)
    assert.equal(server.bytesServed('/new.gguf'), after.bytes)
    assert.equal(sha256Of(destination), after.sha256)
    assert.deepEqual(list(), published)
  },
)

test(
  'a published file that somebody keeps for himself alone cannot be verified, and the error says why',
  onWindows,
  async (t) => {
    const { oldSource, destination, scanner: holder } = await openInUse(t)
    await using scanner = holder
    await assert.rejects(downloadFile({ source: oldSource, destination, verifyAgain: true }), {
      code: 'ERR_MODEL_FILE_SYSTEM',
      path: destination,
      message: /\(EBUSY\); another process/,
    })
    await scanner.letGo()
    assert.equal((await downloadFile({ source: oldSource, destination, verifyAgain: true })).cached, true)
  },
)

test('an abort ends the wait for a file that is in use', onWindows, async (t) => {
  const { source, oldSource, destination, before, scanner: holder, replacing, payload } = await openInUse(t)
  await using scanner = holder
  const controller = new AbortController()
  const reason = new Error('the user went away')
  const download = downloadFile({ source, destination, replace: true, signal: controller.signal })
  download.catch(() => {})
  await replacing()
  // Not the first try that fails after it ends the wait, but the abort.
  await assert.rejects(win32Files.replace(payload(MiB).path, destination, AbortSignal.abort()), { name: 'AbortError' })
  controller.abort(reason)
  await assert.rejects(download, (error) => error === reason)
  assert.equal((await findPublished(destination, oldSource))?.sha256, before.sha256)
  await scanner.letGo()
})
