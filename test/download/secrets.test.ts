import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { openDownloadFolder } from '../support/download-folder.ts'
import { downloadFile, ModelDownloadError, resolveSource } from '../support/download-internals.ts'
import { ModelServer } from '../support/model-server.ts'

const MiB = 1024 * 1024

/** All text that a download left in the folder, the model aside. */
function recordsIn(models: string): string {
  const names = readdirSync(models).filter((name) => name.endsWith('.json'))
  return names.map((name) => readFileSync(join(models, name), 'utf8')).join('\n')
}

test('the hub token goes to the hub only, and to no other origin that it redirects to', async (t) => {
  const { server, models, destination, payload } = await openDownloadFolder(t)
  const file = payload(MiB)
  const cdn = await ModelServer.start()
  t.after(() => cdn.close())
  const hubPath = '/user/repo/resolve/main/model.gguf'
  server.serve(hubPath, { file: file.path, headers: { 'x-linked-etag': `"${file.sha256}"` } })
  server.fault(hubPath, { kind: 'redirect', to: `${cdn.serve('/blob', file.path)}?signature=of-the-cdn` })
  const source = resolveSource('hf:user/repo/model.gguf', { HF_ENDPOINT: server.origin, HF_TOKEN: 'hf_secret\n' })
  const model = await downloadFile({ source, destination })
  assert.equal(model.sha256, file.sha256)
  assert.equal(server.requests(hubPath)[0]?.headers.authorization, 'Bearer hf_secret')
  assert.equal(cdn.requests('/blob').length, 1)
  assert.equal(cdn.requests('/blob')[0]?.headers.authorization, undefined)
  assert.doesNotMatch(recordsIn(models), /secret|signature|of-the-cdn/)
})

test('headers of the caller, and user info, stay with the origin, also when a redirect leads back to it', async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t)
  const other = await ModelServer.start()
  t.after(() => other.close())
  const file = payload(MiB)
  const back = server.serve('/back.gguf', file.path)
  other.serve('/hop', file.path)
  other.fault('/hop', { kind: 'redirect', to: back })
  server.fault('/moved.gguf', { kind: 'redirect', to: `${other.origin}/hop` })
  server.fault('/model.gguf', { kind: 'redirect', to: '/moved.gguf', status: 307 })
  const url = `http://me:pass%20word@${server.origin.slice('http://'.length)}/model.gguf`
  await downloadFile({ source: resolveSource({ url, headers: { 'X-Api-Key': 'k' } }), destination })
  const seen = (requests: ReturnType<ModelServer['requests']>) =>
    requests.map(({ headers }) => [headers.authorization, headers['x-api-key']])
  const basic = `Basic ${Buffer.from('me:pass word').toString('base64')}`
  assert.deepEqual(seen(server.requests('/model.gguf')), [[basic, 'k']])
  assert.deepEqual(seen(server.requests('/moved.gguf')), [[basic, 'k']])
  assert.deepEqual(seen(other.requests('/hop')), [[undefined, undefined]])
  assert.deepEqual(seen(server.requests('/back.gguf')), [[undefined, undefined]])
})

test("the hub token is not sent to other servers, nor over the caller's own authorization", async (t) => {
  const { server, destination, payload } = await openDownloadFolder(t)
  const url = server.serve('/model.gguf', payload(MiB).path)
  await downloadFile({ source: resolveSource(url, { HF_TOKEN: 'hf_secret' }), destination })
  assert.equal(server.requests('/model.gguf')[0]?.headers.authorization, undefined)
  const own = resolveSource({ url, headers: { Authorization: 'mine' } }, { HF_TOKEN: 'x', HF_ENDPOINT: server.origin })
  assert.deepEqual(own.headers, { authorization: 'mine' })
})

test('no error, event or record tells what a URL keeps secret', async (t) => {
  const { server, models, destination, payload, list } = await openDownloadFolder(t)
  const file = payload(MiB)
  server.serve('/model.gguf', file.path)
  const url = `http://me:pa55word@${server.origin.slice('http://'.length)}/model.gguf?token=s3cret#fr4gment`
  const secrets = /pa55word|s3cret|fr4gment/
  const headers = { authorization: 'Bearer pa55word' }
  const faults = [
    { kind: 'status', status: 404 },
    { kind: 'html' },
    { kind: 'gzip' },
    { kind: 'cut', atByte: 500_000 },
  ] as const
  for (const fault of faults) {
    server.fault('/model.gguf', fault)
    const options = { source: resolveSource({ url, headers }), destination, retryDelaysMs: [] }
    const error: unknown = await downloadFile(options).catch((error) => error)
    assert.ok(error instanceof ModelDownloadError)
    assert.doesNotMatch(inspect(error, { depth: 10 }), secrets)
  }
  assert.equal(list().length, 2, 'a partial and its record')
  assert.doesNotMatch(recordsIn(models), secrets)
  server.fault('/model.gguf', undefined)
  const model = await downloadFile({ source: resolveSource({ url, headers }), destination })
  assert.doesNotMatch(inspect(model), secrets)
  assert.doesNotMatch(recordsIn(models), secrets)
})

test("the hub's word on the hash is checked", async (t) => {
  const { server, destination, payload, list } = await openDownloadFolder(t)
  const file = payload(MiB)
  const sha256 = 'cd'.repeat(32)
  const url = server.serve('/model.gguf', { file: file.path, headers: { 'x-linked-etag': `"${sha256}"` } })
  const code = 'ERR_MODEL_HASH_MISMATCH'
  await assert.rejects(downloadFile({ source: resolveSource(url), destination }), { code })
  const asked = server.bytesServed('/model.gguf')
  const source = resolveSource({ url, sha256: file.sha256 })
  await assert.rejects(downloadFile({ source, destination }), { code, message: /by its hub's word/ })
  assert.ok(server.bytesServed('/model.gguf') - asked < file.bytes)
  assert.ok(list().every((name) => /\.os-mutex-rejected$/.test(name)))
})
