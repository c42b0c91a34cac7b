// The hub that tests download from behaves as huggingface.co does.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { openDownloadFolder } from '../support/download-folder.ts'
import { Hub, type HubOptions } from '../support/model-server/hub.ts'
import { rateLimited } from '../support/model-server/usual-faults.ts'
import { etagPerNode } from '../support/model-server.ts'
import { rawRequest } from '../support/raw-request.ts'

const repository = 'ann/tiny'

async function open(t: TestContext, options: HubOptions = {}) {
  const { payload } = await openDownloadFolder(t)
  const hub = await Hub.start(options)
  t.after(() => hub[Symbol.asyncDispose]())
  const file = payload(4_096)
  const commit = hub.commit(repository, { 'model.gguf': file.path })
  return { hub, payload, file, commit, url: hub.url(repository, 'model.gguf') }
}

test('a file is a redirect to a signed URL of the CDN, with what the hub knows of it', async (t) => {
  const { hub, url, file, commit } = await open(t, { served: { etag: etagPerNode } })
  const { status, headers } = await rawRequest(url)
  assert.deepEqual(
    [status, headers['x-linked-etag'], headers['x-linked-size'], headers['x-repo-commit']],
    [302, `"${file.sha256}"`, '4096', commit],
  )
  const location = headers.location ?? ''
  const [one, two] = [await rawRequest(location), await rawRequest(location)]
  assert.ok(location.startsWith(hub.cdn.origin) && one.body.equals(readFileSync(file.path)))
  assert.deepEqual([one.headers.etag, two.headers.etag], ['"node-1"', '"node-2"'])
  assert.notEqual((await rawRequest(url, { method: 'HEAD' })).headers.location, location)
  assert.deepEqual([hub.resolves, hub.cdn.requests(hub.blobPath(file.path)).length], [2, 2])
})

test("the CDN's URLs end: by their time, and when they are all called back", async (t) => {
  const { hub, url } = await open(t, { signedForMs: 50 })
  const location = (await rawRequest(url)).headers.location ?? ''
  assert.equal((await rawRequest(location.replace(/Signature=..../, 'Signature=0000'))).status, 403)
  await new Promise((resolve) => setTimeout(resolve, 60))
  assert.equal((await rawRequest(location)).status, 403)
  const next = await open(t)
  const good = (await rawRequest(next.url)).headers.location ?? ''
  assert.equal((await rawRequest(good)).status, 200)
  next.hub.signer.expireAll()
  assert.equal((await rawRequest(good)).status, 403)
  assert.equal(hub.resolves, 1)
})

test('a revision moves from one commit to another, and both stay', async (t) => {
  const { hub, payload, commit, url } = await open(t)
  const linked = async (of: string) => (await rawRequest(of)).headers['x-repo-commit']
  const next = hub.commit(repository, { 'model.gguf': payload(8_192).path })
  assert.equal(await linked(url), next)
  hub.point(repository, 'main', commit)
  assert.equal(await linked(url), commit)
  assert.equal(await linked(hub.url(repository, 'model.gguf', next)), next)
  const { status, headers } = await rawRequest(hub.url(repository, 'model.gguf', 'nowhere'))
  assert.deepEqual([status, headers['x-error-code']], [404, 'RevisionNotFound'])
  assert.equal((await rawRequest(hub.url(repository, 'other.gguf'))).headers['x-error-code'], 'EntryNotFound')
  hub.commit(repository, { 'model.gguf': payload(8_192).path }, 'refs/pr/1')
  assert.equal((await rawRequest(hub.url(repository, 'model.gguf', 'refs/pr/1'))).status, 302)
})

test('a tag is looked up by its manifest', async (t) => {
  const { hub } = await open(t)
  hub.tag(repository, 'Q4_K_M', 'model.gguf')
  const { status, body } = await rawRequest(`${hub.origin}/v2/${repository}/manifests/Q4_K_M`)
  assert.deepEqual([status, JSON.parse(body.toString())], [200, { ggufFile: { rfilename: 'model.gguf' } }])
  assert.equal((await rawRequest(`${hub.origin}/v2/${repository}/manifests/Q8_0`)).status, 404)
  assert.equal(hub.lookUps, 2)
})

test('a stale token is refused for a public file too; a gated one wants a known token', async (t) => {
  const { hub, url, payload } = await open(t, { tokens: ['hf_good'], gated: ['ann/gated'] })
  hub.commit('ann/gated', { 'model.gguf': payload(4_096).path })
  const gated = hub.url('ann/gated', 'model.gguf')
  const status = async (of: string, token?: string) =>
    (await rawRequest(of, token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } })).status
  assert.deepEqual([await status(url), await status(url, 'hf_good'), await status(url, 'hf_stale')], [302, 302, 401])
  assert.deepEqual(
    [await status(gated), await status(gated, 'hf_good'), await status(gated, 'hf_stale')],
    [401, 302, 401],
  )
  const { headers } = await rawRequest(gated)
  assert.match(String(headers['x-error-message']), /restricted/)
})

test('faults of a path come before the hub', async (t) => {
  const { hub, url } = await open(t)
  hub.server.fault(new URL(url).pathname, rateLimited(60_000))
  assert.equal((await rawRequest(url)).status, 429)
  assert.deepEqual([hub.resolves, hub.cdn.log.length], [1, 0])
})
