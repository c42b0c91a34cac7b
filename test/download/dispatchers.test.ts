// Dispatchers that users bring, of each version of undici: every promise of a download holds with each of them.
import '../support/nodes-dispatcher.ts'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { Agent as HttpAgent } from 'node:http'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { DispatchController, DispatchHandler, RequestDispatcher } from '#download/http/dispatcher'
import { exchange } from '#download/http/exchange'
import { startConnectProxy } from '../support/connect-proxy.ts'
import { assertPublished, openDownloadFolder, partialsIn } from '../support/download-folder.ts'
import { checkDispatcher, downloadFile, resolveSource } from '../support/download-internals.ts'
import { freePort } from '../support/listening.ts'
import { connect, type Undici, undicis } from '../support/undicis.ts'
import { until } from '../support/until.ts'

const MiB = 1024 * 1024
const path = '/model.gguf'
const quick = { retryDelaysMs: [1, 2, 4] }

interface Scene extends Awaited<ReturnType<typeof openDownloadFolder>> {
  readonly t: TestContext
  readonly dispatcher: RequestDispatcher
}

/** The test once for each undici. */
function each(what: string, run: (scene: Scene, undici: Undici) => Promise<void>, server = {}): void {
  for (const undici of undicis) {
    test(`${undici.name}: ${what}`, { skip: undici.skip }, async (t) => {
      const folder = await openDownloadFolder(t, server)
      const agent = await undici.agent()
      await run({ ...folder, t, dispatcher: agent }, undici)
      if (undici.load) await agent.close()
    })
  }
}

/** The same, where it takes more of an undici than its agent. */
function eachPackage(what: string, run: (scene: Scene, module: Awaited<ReturnType<Loader>>) => Promise<void>): void {
  for (const { name, skip, load } of undicis) {
    const why = skip || (load === undefined && 'Node hands out nothing but its agent')
    test(`${name}: ${what}`, { skip: why }, async (t) => {
      const module = await (load as Loader)()
      const agent = new module.Agent({ connect })
      await run({ ...(await openDownloadFolder(t)), t, dispatcher: agent }, module)
      await agent.close()
    })
  }
}
type Loader = NonNullable<Undici['load']>

each('a model comes whole, by way of a redirect', async (scene) => {
  const file = scene.payload(2 * MiB)
  const source = resolveSource(`${scene.server.origin}/first`)
  scene.server.fault('/first', { kind: 'redirect', to: scene.server.serve(path, file.path) })
  await downloadFile({ source, destination: scene.destination, dispatcher: scene.dispatcher })
  assertPublished(scene, file)
})

each(
  'several connections bring a model',
  async (scene) => {
    const file = scene.payload(16 * MiB)
    const source = resolveSource(scene.server.serve(path, file.path))
    await downloadFile({ source, destination: scene.destination, dispatcher: scene.dispatcher, connections: 3 })
    assertPublished(scene, file)
    assert.ok(scene.server.mostAtOnce(path) >= 3)
  },
  { bytesPerSecondPerConnection: 16 * MiB },
)

each('an abort ends the request, and the next download goes on from there', async (scene) => {
  const { server, destination, dispatcher } = scene
  const file = scene.payload(2 * MiB)
  const source = resolveSource(server.serve(path, file.path))
  server.pause(path, MiB)
  const controller = new AbortController()
  const download = downloadFile({ source, destination, dispatcher, signal: controller.signal })
  download.catch(() => {})
  await until('a part is there', () => partialsIn(scene.models).some(({ bytes }) => bytes > 0))
  const reason = new Error('the user went away')
  controller.abort(reason)
  await assert.rejects(download, (error) => error === reason)
  server.resume(path)
  await server.idle(path)
  const model = await downloadFile({ source, destination, dispatcher })
  assertPublished(scene, file)
  assert.ok(model.resumedBytes > 0)
})

each('an abort before there is a connection ends the request', async (scene) => {
  const { server, destination, dispatcher } = scene
  const source = resolveSource(server.serve(path, scene.payload(MiB).path))
  server.fault(path, { kind: 'silent' })
  const controller = new AbortController()
  const download = downloadFile({ source, destination, dispatcher, signal: controller.signal })
  download.catch(() => {})
  controller.abort(new Error('the user went away'))
  await assert.rejects(download, /the user went away/)
})

each('what came before a cut is kept, and the rest is asked for', async (scene) => {
  const { server, destination, dispatcher } = scene
  const file = scene.payload(2 * MiB)
  const source = resolveSource(server.serve(path, file.path))
  server.fault(path, { kind: 'cut', atByte: MiB, times: 1 })
  const model = await downloadFile({ source, destination, dispatcher, ...quick })
  assertPublished(scene, file)
  assert.equal(model.downloadedBytes, file.bytes)
  const ranges = server.requests(path).map(({ headers: { range = 'all' } }) => range.replace(/(?<=-).*/, ''))
  assert.deepEqual(ranges, ['all', `bytes=${MiB}-`])
})

each('failures have the code of undici as their cause', async (scene) => {
  const { server, destination, dispatcher } = scene
  const source = resolveSource(server.serve(path, scene.payload(MiB).path))
  const limits = { headersTimeoutMs: 300, bodyTimeoutMs: 300, retryDelaysMs: [] }
  const failure = async (what = source) => {
    const error: Error = await downloadFile({ source: what, destination, dispatcher, ...limits }).then(
      () => assert.fail('it came'),
      (error) => error,
    )
    return [(error as NodeJS.ErrnoException).code, (error.cause as NodeJS.ErrnoException).code, error.message]
  }
  const network = 'ERR_MODEL_NETWORK'
  server.fault(path, { kind: 'silent' })
  const silent = `The connection to ${source.label} brought no answer within 0.3 s`
  assert.deepEqual(await failure(), [network, 'UND_ERR_HEADERS_TIMEOUT', silent])
  server.fault(path, { kind: 'stall', atByte: 1000 })
  const stalled = `The connection to ${source.label} sent nothing for 0.3 s`
  assert.deepEqual(await failure(), [network, 'UND_ERR_BODY_TIMEOUT', stalled])
  server.fault(path, { kind: 'cut', atByte: 1000 })
  assert.deepEqual((await failure()).slice(0, 2), [network, 'UND_ERR_SOCKET'])
  const nobody = resolveSource(`http://127.0.0.1:${await freePort()}${path}`)
  assert.deepEqual((await failure(nobody)).slice(0, 2), [network, 'ECONNREFUSED'])
})

each('a compressed body that nobody asked for is refused, and not decompressed', async (scene) => {
  const { server, destination, dispatcher } = scene
  const source = resolveSource(server.serve(path, scene.payload(MiB).path))
  server.fault(path, { kind: 'compressed', encoding: 'gzip' })
  const refused = { code: 'ERR_MODEL_BAD_RESPONSE', message: /answered with a gzip encoded body/ }
  await assert.rejects(downloadFile({ source, destination, dispatcher, ...quick }), refused)
})

each('a body that nobody takes is read no further, and comes out whole', async (scene) => {
  const file = scene.payload(40 * MiB)
  const url = new URL(scene.server.serve(path, file.path))
  const limits = { headersTimeoutMs: 30_000, bodyTimeoutMs: 30_000 }
  const answer = await exchange(url, { headers: {}, dispatcher: scene.dispatcher, limits, signal: undefined })
  // What it reads, it reads at once: it stands when nothing has gone out for so long.
  for (let before = -1; before !== scene.server.bytesServed(path); ) {
    before = scene.server.bytesServed(path)
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  assert.ok(
    scene.server.bytesServed(path) < file.bytes / 2,
    `${scene.server.bytesServed(path)} bytes were on their way`,
  )
  const hash = createHash('sha256')
  for await (const chunks of answer.body) {
    for (const chunk of chunks) hash.update(chunk)
    answer.giveBack(chunks)
  }
  assert.equal(hash.digest('hex'), file.sha256)
})

each(
  'an interceptor is gone by, and an answer that it begins a second time is joined to nothing',
  async (scene, undici) => {
    const file = scene.payload(4 * MiB)
    const source = resolveSource(scene.server.serve(path, file.path))
    let again = 0
    let abort: ((reason: Error) => void) | undefined
    const calledOff = new Error('called off')
    let bytes = 0
    const isEnough = (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes < 100_000 || again > 0) return
      again++
      abort?.(calledOff)
    }
    type Dispatch = (options: object, handler: Partial<DispatchHandler>) => boolean
    const interceptor = (dispatch: Dispatch) => (options: object, handler: DispatchHandler) =>
      dispatch(options, {
        ...handler,
        ...(undici.isOld
          ? {
              onConnect: (given: (reason?: Error) => void) => {
                abort = given
                handler.onConnect(given)
              },
              onData: (chunk: Buffer) => {
                const goesOn = handler.onData(chunk)
                isEnough(chunk)
                return goesOn
              },
              onError: (error: Error) =>
                error === calledOff ? void dispatch(options, handler) : handler.onError(error),
            }
          : {
              onRequestStart: (controller: DispatchController, context: unknown) => {
                abort = (reason) => controller.abort(reason)
                handler.onRequestStart(controller, context)
              },
              onResponseData: (controller: DispatchController, chunk: Buffer) => {
                handler.onResponseData(controller, chunk)
                isEnough(chunk)
              },
              onResponseError: (controller: DispatchController | null, error: Error) =>
                error === calledOff ? void dispatch(options, handler) : handler.onResponseError(controller, error),
            }),
      })
    const { compose } = await undici.agent()
    const dispatcher = compose.call(scene.dispatcher, interceptor as never)
    await downloadFile({ source, destination: scene.destination, connections: 1, dispatcher, ...quick })
    assert.equal(again, 1)
    assertPublished(scene, file)
  },
)

eachPackage('a ProxyAgent leads through its proxy, and its refusal is told', async (scene, { ProxyAgent }) => {
  const file = scene.payload(2 * MiB)
  using proxy = await startConnectProxy(Number(new URL(scene.server.origin).port))
  scene.server.serve(path, file.path)
  const source = resolveSource(`http://models.invalid${path}`)
  const options = { uri: `http://${proxy.address}`, token: 'Basic bWU6cHc=', proxyTunnel: true }
  const dispatcher = new ProxyAgent({ ...options, proxyTls: connect, requestTls: connect })
  await downloadFile({ source, destination: scene.destination, dispatcher })
  assertPublished(scene, file)
  assert.deepEqual(proxy.asked, [{ target: 'models.invalid:80', authorization: 'Basic bWU6cHc=' }])
  await dispatcher.close()
  const gone = new ProxyAgent({ uri: `http://127.0.0.1:${await freePort()}`, proxyTls: connect })
  const others = { destination: join(scene.models, 'other.gguf'), dispatcher: gone, retryDelaysMs: [] }
  await assert.rejects(downloadFile({ source, ...others }), { code: 'ERR_MODEL_NETWORK', message: /ECONNREFUSED/ })
  await gone.close()
})

eachPackage('a Client, a Pool, an EnvHttpProxyAgent and a RetryAgent bring a model', async (scene, module) => {
  const { origin } = scene.server
  const agent = new module.Agent({ connect })
  const dispatchers = [
    new module.Client(origin, { connect }),
    new module.Pool(origin, { connect, connections: 4 }),
    new module.EnvHttpProxyAgent({ connect, noProxy: '*' }),
    new module.RetryAgent(agent),
  ]
  for (const [index, dispatcher] of dispatchers.entries()) {
    checkDispatcher(dispatcher)
    const file = scene.payload(2 * MiB)
    const at = `/m${index}.gguf`
    const destination = join(scene.models, at)
    // The retries are the RetryAgent's own.
    if (dispatcher instanceof module.RetryAgent) scene.server.fault(at, { kind: 'cut', atByte: MiB, times: 1 })
    const source = resolveSource(scene.server.serve(at, file.path))
    const model = await downloadFile({ source, destination, dispatcher, retryDelaysMs: [] })
    assert.equal(model.sha256, file.sha256)
    await dispatcher.close()
  }
})

eachPackage('a MockAgent is believed', async (scene, { MockAgent }) => {
  const file = scene.payload(MiB)
  const dispatcher = new MockAgent()
  dispatcher.disableNetConnect()
  const headers = { 'Content-Length': String(file.bytes), ETag: '"mocked"' }
  const mocked = { path, method: 'GET' }
  dispatcher.get('http://models.invalid').intercept(mocked).reply(200, readFileSync(file.path), { headers })
  const source = resolveSource(`http://models.invalid${path}`)
  await downloadFile({ source, destination: scene.destination, dispatcher })
  assertPublished(scene, file)
  await dispatcher.close()
})

test('what is no dispatcher is refused, with what would be one', () => {
  for (const wrong of [{}, null, 'http://proxy', new HttpAgent(), () => {}]) {
    assert.throws(() => checkDispatcher(wrong), {
      code: 'ERR_MUTEX_INVALID_ARGUMENT',
      message: /^The option "dispatcher" must be a Dispatcher of undici 6, 7 or 8, such as an Agent/,
    })
  }
})

test('headers of undici 6 may be text or bytes, several, and of any case', async () => {
  const headers = [
    'Content-Length',
    '0',
    Buffer.from('ETAG'),
    Buffer.from('"\xe9"', 'latin1'),
    'x',
    ['1', '2'],
    'X',
    '3',
  ]
  const dispatcher: RequestDispatcher = {
    dispatch: (_, handler) => {
      // As the mocks of undici 6.0 do, without `onConnect`.
      handler.onHeaders(200, headers as never, () => {})
      handler.onComplete([])
      return true
    },
  }
  const limits = { headersTimeoutMs: 1000, bodyTimeoutMs: 1000 }
  const answer = await exchange(new URL('http://a.test'), { headers: {}, dispatcher, limits, signal: undefined })
  const told = ['content-length', 'etag', 'x', 'constructor'].map((name) => answer.header(name))
  assert.deepEqual(told, ['0', '"é"', '1', undefined])
})

test('a dispatcher that throws fails the request at once', async () => {
  const limits = { headersTimeoutMs: 1000, bodyTimeoutMs: 1000 }
  const dispatcher: RequestDispatcher = {
    dispatch: () => {
      throw new Error('no more')
    },
  }
  const asked = exchange(new URL('http://a.test'), { headers: {}, dispatcher, limits, signal: undefined })
  await assert.rejects(asked, /no more/)
})

test('no declaration that users reach names undici: they may have another one', () => {
  const dist = fileURLToPath(new URL('.', import.meta.resolve('os-mutex')))
  const reached = new Set<string>()
  const reach = (file: string): void => {
    if (reached.has(file)) return
    reached.add(file)
    const text = readFileSync(file, 'utf8')
    assert.doesNotMatch(text, /['"]undici/, file)
    for (const [, to = ''] of text.matchAll(/(?:from|import\()\s*['"](\.[^'"]+)\.[jt]s['"]/g))
      reach(`${join(file, '..', to)}.d.ts`)
  }
  for (const entry of readdirSync(dist).filter((name) => name.endsWith('.d.ts'))) reach(join(dist, entry))
  assert.ok(reached.size > 10)
})
