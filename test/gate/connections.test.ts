// By which way and with whose token a model comes: proxies, a dispatcher, what the hub's own tools keep.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { Agent as HttpAgent } from 'node:http'
import net from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as immediate } from 'node:timers/promises'
import { inspect } from 'node:util'
import { Agent, type Dispatcher } from 'undici/index.js'
import { startConnectProxy } from '../support/connect-proxy.ts'
import { downloadFile, resolveSource } from '../support/download-internals.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { freePort } from '../support/listening.ts'
import { startSocks5 } from '../support/socks5-server.ts'

clearDownloadVariables()

test('the hub token is found where its own tools keep it', async () => {
  await using scene = await GateScene.create()
  const model = scene.model()
  const file = join(scene.folder.path, 'elsewhere')
  writeFileSync(file, 'by-path\n')
  writeFileSync(join(scene.folder.path, 'token'), ' by-home ')
  const cases: [Record<string, string>, string][] = [
    [{ HF_TOKEN: 'by-name', HF_TOKEN_PATH: file }, 'Bearer by-name'],
    [{ HF_TOKEN_PATH: file }, 'Bearer by-path'],
    [{}, 'Bearer by-home'],
  ]
  for (const [index, [env, expected]] of cases.entries()) {
    for (const name of ['HF_TOKEN', 'HF_TOKEN_PATH']) delete process.env[name]
    Object.assign(process.env, env)
    const path = `/ann/tiny/resolve/main/m${index}.gguf`
    scene.server.serve(path, model.path)
    await scene.gate.ensureModel(`hf:ann/tiny/m${index}.gguf`)
    assert.equal(scene.server.requests(path)[0]?.headers.authorization, expected)
  }
})

test('the proxy of the environment is used, but not for the hosts that NO_PROXY names', async () => {
  await using scene = await GateScene.create()
  const model = scene.model()
  using proxy = await startConnectProxy(Number(new URL(scene.server.origin).port))
  // As most people write it: without a scheme; and with a password that has to be escaped.
  const cases: [string, string | undefined][] = [
    [`http://${proxy.address}`, undefined],
    [proxy.address, undefined],
    [`me:p%23w@${proxy.address}`, `Basic ${btoa('me:p#w')}`],
  ]
  for (const [index, [value, authorization]] of cases.entries()) {
    process.env.HTTP_PROXY = value
    scene.server.serve(`/m${index}.gguf`, model.path)
    const file = await scene.gate.ensureModel(`http://models.invalid/m${index}.gguf`)
    assert.equal(file.sha256, model.sha256)
    assert.deepEqual(proxy.asked[index], { target: 'models.invalid:80', authorization })
  }
  process.env.NO_PROXY = '127.0.0.0/8'
  await scene.gate.ensureModel(scene.server.serve('/near.gguf', model.path))
  assert.equal(proxy.asked.length, cases.length)
})

test("a dispatcher of the caller's own is used, and stays open", async () => {
  await using scene = await GateScene.create()
  let dispatched = 0
  // Wine's sockets know no TCP keep-alive.
  const agent = new Agent({ connect: { keepAlive: false } })
  const dispatcher = agent.compose((dispatch) => (options, handler) => {
    dispatched++
    return dispatch(options, handler)
  })
  for (const path of ['/a.gguf', '/b.gguf']) {
    await scene.gate.ensureModel(scene.server.serve(path, scene.model().path), { dispatcher })
  }
  assert.equal(dispatched, 2)
  await agent.close()
})

test('a SOCKS proxy gets the name of the host, whether it is called socks5 or socks5h', async () => {
  await using scene = await GateScene.create()
  using proxy = await startSocks5(Number(new URL(scene.server.origin).port))
  for (const [index, scheme] of ['socks5', 'socks5h'].entries()) {
    process.env.ALL_PROXY = `${scheme}://me:pw@${proxy.address}`
    const model = scene.model()
    scene.server.serve(`/m${index}.gguf`, model.path)
    const file = await scene.gate.ensureModel(`http://models.invalid/m${index}.gguf`)
    assert.equal(file.sha256, model.sha256)
  }
  assert.deepEqual(new Set(proxy.asked), new Set(['me:pw models.invalid:80']))
})

test('a proxy that is not there is named by its variable, and so is one that is none', async () => {
  await using scene = await GateScene.create()
  const unreachable = await freePort()
  process.env.HTTP_PROXY = `http://me:pa55word@127.0.0.1:${unreachable}`
  const refused: Error = await downloadFile({
    source: resolveSource('http://models.invalid/m.gguf'),
    destination: join(scene.folder.models, 'm.gguf'),
    retryDelaysMs: [],
  }).catch((error) => error)
  // Windows does not tell the two spellings of a variable apart.
  assert.match(refused.message, /ECONNREFUSED.* \(by way of the proxy that HTTP_PROXY names\)/i)
  process.env.HTTP_PROXY = 'http://me:pa#55word@127.0.0.1:1'
  const unusable: Error = await scene.gate.ensureModel('http://models.invalid/m.gguf').catch((error) => error)
  assert.match(unusable.message, /^The variable HTTP_PROXY is no address of a proxy/i)
  for (const error of [refused, unusable]) assert.doesNotMatch(inspect(error, { depth: 10 }), /55word/)
})

test('what is no dispatcher is refused at the call', async () => {
  await using scene = await GateScene.create()
  const url = scene.server.serve('/m.gguf', scene.model().path)
  const options = { dispatcher: new HttpAgent() as unknown as Dispatcher }
  await assert.rejects(scene.gate.ensureModel(url, options), {
    code: 'ERR_MUTEX_INVALID_ARGUMENT',
    message: /^The option "dispatcher" must be a Dispatcher of undici 6, 7 or 8/,
  })
  assert.equal(scene.server.requests('/m.gguf').length, 0)
})

test('each address of a host has seconds to answer, not the quarter of one that Node gives it', async (t) => {
  await using scene = await GateScene.create()
  const asked = t.mock.method(net, 'connect')
  await scene.gate.ensureModel(scene.server.serve('/m.gguf', scene.model().path))
  const given = asked.mock.calls.map(({ arguments: [options] }) => options as unknown as net.TcpNetConnectOpts)
  const limits = given.map(({ autoSelectFamilyAttemptTimeout: limit = 0 }) => limit)
  assert.ok(limits.length > 0 && limits.every((limit) => limit >= 2_000), inspect(limits))
})

test('many models may share one signal without a warning', async (t) => {
  await using scene = await GateScene.create()
  const warnings: Error[] = []
  const note = (warning: Error) => warnings.push(warning)
  process.on('warning', note)
  t.after(() => process.off('warning', note))
  const { signal } = new AbortController()
  const urls = Array.from({ length: 15 }, (_, index) => scene.server.serve(`/m${index}.gguf`, scene.model().path))
  await Promise.all(urls.map((url) => scene.gate.ensureModel(url, { signal })))
  await immediate()
  assert.deepEqual(warnings, [])
})

test('a tag is asked for once more without a token that was only found, and with one that was given it is not', async () => {
  await using scene = await GateScene.create()
  const { server, gate } = scene
  const model = scene.model()
  const asked = scene.tag('ann/tiny/manifests/Q4_K_M', { ggufFile: { rfilename: 'tiny.gguf' } })
  server.serve('/ann/tiny/resolve/main/tiny.gguf', model.path)
  const tokens = () => server.requests(asked).map(({ headers }) => headers.authorization)
  const headers = { 'x-error-message': 'Invalid token hf_stale', 'x-error-code': 'Unauthorized' }
  server.fault(asked, { kind: 'status', status: 401, headers, times: 2 })
  const given = { url: 'hf:ann/tiny:Q4_K_M', headers: { authorization: 'Bearer hf_stale' } }
  const error: Error = await gate.ensureModel(given).catch((error) => error)
  assert.match(
    error.message,
    /answered 401; its credentials are from `headers`; it says: Invalid token … \(Unauthorized\)$/,
  )
  assert.deepEqual(tokens(), ['Bearer hf_stale'])
  const path = join(scene.folder.path, 'token')
  writeFileSync(path, 'hf_stale')
  const file = await gate.ensureModel('hf:ann/tiny:Q4_K_M')
  assert.equal(file.sha256, model.sha256)
  assert.deepEqual(tokens().slice(1), ['Bearer hf_stale', undefined])
  // Refused both times: the first word counts, and the token's place is named.
  server.fault(asked, { kind: 'status', status: 403 })
  await assert.rejects(gate.ensureModel('hf:ann/tiny:Q4_K_M', { fetch: 'always' }), ({ message }: Error) =>
    message.endsWith(`answered 403; its credentials are from ${path}`),
  )
})

test('a tag that is rate limited is asked for again when the hub says so, and not at all where that is too long', async () => {
  await using scene = await GateScene.create()
  const { server, gate } = scene
  const asked = scene.tag('ann/tiny/manifests/Q8_0', { ggufFile: { rfilename: 'tiny.gguf' } })
  server.serve('/ann/tiny/resolve/main/tiny.gguf', scene.model().path)
  server.fault(asked, { kind: 'status', status: 429, headers: { ratelimit: '"resolvers";r=0;t=299' }, times: 1 })
  await assert.rejects(gate.ensureModel('hf:ann/tiny:Q8_0'), {
    code: 'ERR_MODEL_HTTP_STATUS',
    retryAfterMs: 299_000,
    message: /answered 429; it asks to be left alone for 299 s$/,
  })
  assert.equal(server.requests(asked).length, 1)
  server.fault(asked, { kind: 'status', status: 429, headers: { ratelimit: '"resolvers";r=0;t=1' }, times: 1 })
  const startedAt = performance.now()
  await gate.ensureModel('hf:ann/tiny:Q8_0')
  assert.equal(server.requests(asked).length, 3)
  assert.ok(performance.now() - startedAt > 900)
})
