// Rows of the table of faults: redirects. See support/faults.ts.
import assert from 'node:assert/strict'
import { half, status } from '../../support/fault-parts.ts'
import { type FaultScene, fault, path } from '../../support/faults.ts'
import { type Fault, ModelServer } from '../../support/model-server.ts'

const bad = { ends: 'ERR_MODEL_BAD_RESPONSE', requests: 1 } as const
const redirect = (to: string, code = 302): Fault => ({ kind: 'redirect', to, status: code })
fault('a redirect to itself', { ends: 'ERR_MODEL_BAD_RESPONSE', requests: 11 }, redirect(path))
fault('a redirect to itself with status 308', { ends: 'ERR_MODEL_BAD_RESPONSE', requests: 11 }, redirect(path, 308))
fault('a redirect without a location', { ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 }, status(302))
fault('a redirect to file:///etc/passwd', bad, redirect('file:///etc/passwd'))
fault('a redirect to ftp://', bad, redirect('ftp://127.0.0.1/model.gguf'))
fault('a redirect to data:', bad, redirect('data:application/octet-stream,GGUF'))
fault('a redirect to no URL', bad, redirect('http://[not-an-address'))
fault('a redirect to a login page', { ends: 'ERR_MODEL_NOT_GGUF', requests: 1 }, (scene) => {
  scene.server.serve('/login', scene.file.path)
  scene.server.fault('/login', { kind: 'html' })
  return redirect('/login')
})
const elsewhere = async (scene: FaultScene) => {
  const cdn = await ModelServer.start()
  scene.t.after(() => cdn.close())
  return cdn
}
fault(
  'a redirect to another origin, and credentials',
  { guards: 'E19', ends: 'right file', requests: 1 },
  async (scene) => {
    const cdn = await elsewhere(scene)
    const to = cdn.serve('/blob', scene.file.path)
    scene.server.fault(path, redirect(`${to}?signature=1`))
    scene.source = { headers: { authorization: 'Bearer of-the-hub', 'x-api-key': 'secret', cookie: 'secret' } }
    const ending = await scene.get()
    assert.equal(scene.server.requests(path)[0]?.headers.authorization, 'Bearer of-the-hub')
    assert.ok(cdn.requests('/blob').length >= 1)
    for (const { headers } of cdn.requests('/blob')) {
      assert.deepEqual([headers.authorization, headers['x-api-key'], headers.cookie], [undefined, undefined, undefined])
    }
    return ending
  },
)
fault('a redirect to an origin that is gone', { ends: 'ERR_MODEL_NETWORK', requests: 4 }, async (scene) => {
  const cdn = await elsewhere(scene)
  const to = cdn.serve('/blob', scene.file.path)
  await cdn.close()
  scene.server.fault(path, redirect(to))
  return scene.get()
})
fault(
  'a redirect whose signature is over when the rest is asked for',
  { guards: 'D12', ends: 'right file' },
  async (scene) => {
    const cdn = await elsewhere(scene)
    const [old, fresh] = [cdn.serve('/old', scene.file.path), cdn.serve('/fresh', scene.file.path)]
    cdn.fault('/old', { kind: 'cut', atByte: half(scene) })
    scene.server.fault(path, [{ ...redirect(old), times: 1 }, redirect(fresh)])
    return scene.get()
  },
)
