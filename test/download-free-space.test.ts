import assert from 'node:assert/strict'
import { statfsSync } from 'node:fs'
import { test } from 'node:test'
import { openDownloadFolder } from './support/download-folder.ts'
import { downloadFile, resolveSource } from './support/download-internals.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'

test('a file larger than the disk has room for is refused before its bytes come', async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const url = server.serve(path, payload(8 * MiB).path)
  server.fault(path, { kind: 'promise', bytes: 2 ** 52 })
  await assert.rejects(
    downloadFile({ source: resolveSource(url), destination }),
    (error: Error & Record<string, unknown>) => {
      assert.equal(error.code, 'ERR_MODEL_DISK_FULL')
      assert.equal(error.path, models)
      assert.match(error.message, /needs 4\.5 PB more, and only \d+\.\d [GT]B are free in /)
      return true
    },
  )
  assert.deepEqual(list(), [])
  assert.equal(server.requests(path).length, 1)
  const { bavail, bsize } = statfsSync(models)
  assert.ok(bavail * bsize > 0)
})
