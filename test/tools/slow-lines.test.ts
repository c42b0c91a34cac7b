// The slow lines that downloads are tried on are as slow as they are said to be.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { test } from 'node:test'
import { DelayedRelay } from '../support/delayed-relay.ts'
import { openDownloadFolder } from '../support/download-folder.ts'
import { LimitedLink } from '../support/limited-link.ts'
import { withNamespaces } from '../support/namespaces.ts'
import { rawRequest } from '../support/raw-request.ts'

const MiB = 1024 * 1024

test('a relay delays each request by a round trip, and no byte is lost', async (t) => {
  const { server, payload } = await openDownloadFolder(t)
  const file = payload(4 * MiB)
  server.serve('/model.gguf', file.path)
  await using relay = await DelayedRelay.start({ to: server.origin, roundTripMs: 40 })
  const { headMs, body, isCut } = await rawRequest(`${relay.origin}/model.gguf`)
  assert.ok(headMs >= 39, `${headMs} ms`)
  assert.deepEqual([isCut, body.equals(readFileSync(file.path))], [false, true])
  server.fault('/model.gguf', { kind: 'cut', atByte: MiB })
  const cut = await rawRequest(`${relay.origin}/model.gguf`)
  assert.deepEqual([cut.isCut, cut.body.length], [true, MiB])
})

test('what is under way in a relay is bounded by its window', async (t) => {
  const { server, payload } = await openDownloadFolder(t)
  server.serve('/model.gguf', payload(4 * MiB).path)
  await using relay = await DelayedRelay.start({ to: server.origin, roundTripMs: 40, windowBytes: 256 * 1024 })
  const { chunks } = await rawRequest(`${relay.origin}/model.gguf`)
  // 256 KiB each 20 ms, and a block or two more.
  assert.ok((chunks.at(-1)?.ms ?? 0) > 150, `${chunks.at(-1)?.ms} ms`)
})

test('a limited link lets through what it says', withNamespaces, async () => {
  await using link = await LimitedLink.start({ bitsPerSecond: 80e6 })
  const serve = `require('http').createServer((_, response) => response.end(Buffer.alloc(5e6))).listen(8000, () => console.log('up'))`
  const [command = '', ...words] = link.server
  const server = spawn(command, [...words, process.execPath, '-e', serve], { stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    await once(server.stdout, 'data')
    const [enter = '', ...client] = link.client
    const ask = `fetch('http://${link.address}:8000').then((answer) => answer.arrayBuffer()).then(({ byteLength }) => console.log(byteLength, performance.now() - began))`
    const program = `const began = performance.now(); ${ask}`
    const { stdout, stderr } = spawnSync(enter, [...client, process.execPath, '-e', program], { encoding: 'utf8' })
    const [bytes, ms] = stdout.split(' ').map(Number)
    assert.equal(bytes, 5e6, stderr)
    // 10 MB/s by the limit; what the bucket holds goes at once.
    assert.ok(ms !== undefined && ms > 450 && ms < 2_000, `${ms} ms`)
    assert.equal(networkInterfaces()['os-server'], undefined, 'nobody else sees it')
  } finally {
    server.kill()
  }
})
