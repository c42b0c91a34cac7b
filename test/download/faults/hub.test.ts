// Rows of the table of faults: a hub that redirects to a signed URL of a CDN. See support/faults.ts.
import assert from 'node:assert/strict'
import { half } from '../../support/fault-parts.ts'
import { type FaultScene, fault } from '../../support/faults.ts'
import { Hub, type HubOptions } from '../../support/model-server/hub.ts'
import { Signer } from '../../support/model-server/signer.ts'
import { etagPerNode } from '../../support/model-server.ts'

const repository = 'ann/tiny'
const name = 'model.gguf'

/** The scene's model comes from a hub from now on. */
async function throughHub(scene: FaultScene, options: HubOptions = {}): Promise<Hub> {
  const hub = await Hub.start(options)
  scene.t.after(() => hub[Symbol.asyncDispose]())
  hub.commit(repository, { [name]: scene.file.path })
  scene.url = hub.url(repository, name)
  return hub
}

const right = { ends: 'right file' } as const

fault('a hub', { ...right, guards: 'A2' }, async (scene) => {
  await throughHub(scene)
  return scene.get()
})
for (const [what, etag, isOnce] of [
  ['one ETag', '"one"', true],
  ['an ETag per node', etagPerNode, true],
  ['no ETag', null, true],
] as const) {
  fault(`a hub whose CDN has ${what}, cut once`, { ...right, guards: 'A2' }, async (scene) => {
    const hub = await throughHub(scene, { served: { etag } })
    const blob = hub.blobPath(scene.file.path)
    hub.cdn.fault(blob, { kind: 'cut', atByte: half(scene), times: 1 })
    const end = await scene.get()
    if (isOnce && !scene.isSegmented) assert.equal(hub.cdn.bytesServed(blob), scene.file.bytes, 'no byte comes twice')
    return end
  })
}
fault('a signed URL that is over when the rest is asked for', { ...right, guards: 'D12' }, async (scene) => {
  const hub = await throughHub(scene)
  const blob = hub.blobPath(scene.file.path)
  hub.cdn.pause(blob, half(scene))
  hub.cdn.fault(blob, { kind: 'cut', atByte: half(scene) + 1, times: 1 })
  const download = scene.get()
  await hub.cdn.reached(blob, half(scene))
  hub.signer.expireAll()
  hub.cdn.resume(blob)
  return download
})
fault('a revision that moves between two tries', { ...right, guards: 'A2' }, async (scene) => {
  const hub = await throughHub(scene)
  hub.cdn.fault(hub.blobPath(scene.file.path), { kind: 'cut', atByte: half(scene) })
  assert.ok('error' in (await scene.get({ retryDelaysMs: [] })))
  const next = scene.payload()
  scene.serve(next)
  hub.commit(repository, { [name]: next.path })
  return scene.get()
})
// Presigned URLs without a hub

fault('a presigned URL', { ...right, guards: 'A2' }, async (scene) => {
  const signed = new Signer()
  scene.url = signed.sign(scene.serve(scene.file, { signed, head: 'refused' }))
  return scene.get()
})
fault('a presigned URL that is over', { ends: 'ERR_MODEL_HTTP_STATUS', guards: 'A2', requests: 1 }, async (scene) => {
  const signed = new Signer()
  const url = scene.serve(scene.file, { signed, head: 'refused' })
  scene.url = signed.sign(url, -1)
  scene.mends.push(() => {
    scene.url = signed.sign(url)
  })
  return scene.get()
})
fault(
  'a presigned URL with a new signature for the rest: no byte comes twice',
  { ...right, guards: 'A2', only: 'one piece' },
  async (scene) => {
    const signed = new Signer()
    const { server } = scene
    const url = scene.serve(scene.file, { signed, head: 'refused' })
    scene.url = signed.sign(url)
    await scene.leaveHalf()
    scene.url = signed.sign(url)
    const end = await scene.get()
    assert.equal(server.bytesServed('/model.gguf'), scene.file.bytes)
    return end
  },
)
