import assert from 'node:assert/strict'
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  statfsSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { DiskRoom, noRoom } from '../support/disk-room.ts'
import { assertPublished, type DownloadFolder, openDownloadFolder } from '../support/download-folder.ts'
import { downloadFile, resolveSource, takeRoom } from '../support/download-internals.ts'
import { until } from '../support/until.ts'

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

/** What the disk has given for the one partial. 0: there is none yet. */
function taken({ models, list }: DownloadFolder): number {
  const [name] = existsSync(models) ? list().filter((file) => file.endsWith('.os-mutex-partial')) : []
  return name === undefined ? 0 : statSync(join(models, name)).blocks * 512
}

for (const connections of [1, 4]) {
  test(`the room for the whole file is taken at its beginning (${connections} connections), and given back by an abort`, async (t) => {
    const folder = await openDownloadFolder(t)
    const { server, models, destination, payload, list } = folder
    const file = payload(32 * MiB)
    const url = server.serve(path, file.path)
    if (!(await takesRoom(models))) return t.skip('the file system takes no room beforehand')
    server.pause(path, MiB)
    const controller = new AbortController()
    const options = { destination, connections, signal: controller.signal }
    const download = downloadFile({ source: resolveSource(url), ...options })
    await until('all of the room is taken', () => taken(folder) >= file.bytes)
    await server.reached(path, MiB)
    await until('something is written', () => list().some((name) => statSync(join(models, name)).size >= MiB))
    controller.abort()
    await assert.rejects(download, { name: 'AbortError' })
    const [name = ''] = list().filter((file) => file.endsWith('.os-mutex-partial'))
    const { size, blocks } = statSync(join(models, name))
    assert.ok(size >= MiB && size < file.bytes, `${size} bytes are kept`)
    assert.ok(blocks * 512 <= size + MiB, `${blocks * 512} bytes of the disk for ${size}`)

    server.resume(path)
    await downloadFile({ source: resolveSource(url), destination, connections })
    assertPublished(folder, file)
  })
}

test('two downloads that each fit, but not both, are told so at their beginning', { skip: noRoom }, async (t) => {
  const { server, payload } = await openDownloadFolder(t)
  const file = payload(8 * MiB)
  await using room = await DiskRoom.open({ bytes: 12 * MiB })
  const url = server.serve(path, file.path)
  server.pause(path, MiB)
  const get = (name: string) =>
    downloadFile({ source: resolveSource(url), destination: join(room.path, name), connections: 1 })
  const first = get('a.gguf')
  await server.reached(path, MiB)
  await until('its room is taken', () => 12 * MiB - free(room.path) >= file.bytes)
  await assert.rejects(get('b.gguf'), { code: 'ERR_MODEL_DISK_FULL', message: /needs 8\.4 MB more, and only/ })
  server.resume(path)
  assert.equal((await first).sha256, file.sha256)
})

test('taking room leaves size and content as they are, and is no harm twice or for less', async (t) => {
  const { models } = await openDownloadFolder(t)
  const file = join(models, '..', 'file')
  writeFileSync(file, 'content')
  const open = openSync(file, 'r+')
  try {
    for (const bytes of [MiB, MiB, 3, 2 * MiB]) {
      await takeRoom(file, bytes)
      assert.equal(statSync(file).size, 7)
    }
    truncateSync(file, 4 * MiB)
    await takeRoom(file, MiB)
    assert.equal(statSync(file).size, 4 * MiB, 'it is not cut')
    await takeRoom(join(models, 'none'), MiB)
  } finally {
    closeSync(open)
  }
})

test('more than the disk has is refused', { skip: noRoom }, async () => {
  await using room = await DiskRoom.open({ bytes: MiB })
  const file = join(room.path, 'file')
  writeFileSync(file, 'content')
  await assert.rejects(takeRoom(file, 2 * MiB), { code: 'ERR_MODEL_DISK_FULL', path: room.path })
  assert.deepEqual(readdirSync(room.path), ['file'])
  assert.equal(statSync(file).size, 7)
})

function free(folder: string): number {
  const { bavail, bsize } = statfsSync(folder)
  return bavail * bsize
}

async function takesRoom(models: string): Promise<boolean> {
  const file = join(models, '..', 'probe')
  const open = openSync(file, 'w')
  try {
    await takeRoom(file, MiB)
    return statSync(file).blocks * 512 >= MiB
  } finally {
    closeSync(open)
  }
}
