// Rows of the table of faults: connections that are not made, break, stand still or are not to be trusted. See support/faults.ts.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { Agent } from 'undici/index.js'
import { selfSigned } from '../../support/certificate.ts'
import { half } from '../../support/fault-parts.ts'
import { type FaultScene, fault, path } from '../../support/faults.ts'
import { type Fault, ModelServer } from '../../support/model-server.ts'
import { until } from '../../support/until.ts'

const MiB = 1024 * 1024

// Cuts, at each stage of an answer

const network = { ends: 'ERR_MODEL_NETWORK', requests: 4 } as const
const once2 = { ends: 'right file', requests: 2 } as const
const raw = (text: string, rest: 'cut' | 'stall', times?: number): Fault => ({
  kind: 'raw',
  head: () => text,
  rest,
  ...(times !== undefined && { times }),
})
const inHeaders = 'HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-le'
const cuts: [string, (scene: FaultScene) => Fault][] = [
  ['before the status line', () => raw('', 'cut')],
  ['in the status line', () => raw('HTTP/1.1 2', 'cut')],
  ['in the headers', () => raw(inHeaders, 'cut')],
  ['after the headers', () => ({ kind: 'cut', atByte: 0 })],
  ['in the first 24 bytes', () => ({ kind: 'cut', atByte: 10 })],
  ['after the first 24 bytes', () => ({ kind: 'cut', atByte: 24 })],
  ['in the middle', (scene) => ({ kind: 'cut', atByte: half(scene) })],
  ['before the last byte', (scene) => ({ kind: 'cut', atByte: scene.file.bytes - 1 })],
]
for (const [where, cut] of cuts) {
  fault(`a cut ${where}, each time`, network, cut)
  fault(`a cut ${where}, once`, once2, (scene) => ({ ...cut(scene), times: 1 }))
}
// A reset throws away what the receiver's kernel had, as much as that was: whether a try got farther than the one before is chance.
const reset = (scene: FaultScene): Fault => ({ kind: 'cut', atByte: half(scene), reset: true })
fault('a cut in the middle, by a reset, each time', { ends: 'ERR_MODEL_NETWORK' }, reset)
fault('a cut in the middle, by a reset, once', once2, (scene) => ({ ...reset(scene), times: 1 }))
// Over several connections a stretch is 4 MiB long, or what was left of one.
fault(
  'a cut between two stretches, each time',
  { ends: 'ERR_MODEL_NETWORK', only: 'segmented' },
  {
    kind: 'cut',
    atByte: 4 * MiB,
  },
)
fault(
  'a cut between two stretches, once',
  { ends: 'right file', only: 'segmented' },
  {
    kind: 'cut',
    atByte: 4 * MiB,
    times: 1,
  },
)
fault('a cut each 70 kB', { guards: 'A3', ends: 'right file', requests: 4 }, { kind: 'cut-each', bytes: 70_000 })
fault('a cut each 70 kB, Connection: close', { ends: 'right file', requests: 4 }, (scene) => {
  scene.serve(scene.file, { close: true })
  return { kind: 'cut-each', bytes: 70_000 }
})
fault('a cut each 3 MiB', { guards: 'A3', ends: 'right file', only: 'segmented' }, { kind: 'cut-each', bytes: 3 * MiB })
fault('Connection: close', { ends: 'right file', requests: 1 }, (scene) => {
  scene.serve(scene.file, { close: true })
  return scene.get()
})

fault(
  'connections that die after 3 MiB of their own',
  { guards: 'A3', ends: 'right file', only: 'segmented', server: { connection: () => ({ diesAfterBytes: 3 * MiB }) } },
  (scene) => scene.get(),
)
fault(
  'connections that die after 3 MiB of their own, by a reset',
  {
    guards: 'A3',
    ends: 'right file',
    only: 'segmented',
    server: { connection: () => ({ diesAfterBytes: 3 * MiB, reset: true }) },
  },
  (scene) => scene.get(),
)
const slow = (ordinal: number) => ({ bytesPerSecond: ordinal === 3 ? 100_000 : 10 * MiB })
fault(
  'one slow connection of four',
  { guards: 'A3', ends: 'right file', only: 'segmented', server: { connection: slow } },
  (scene) => scene.get(),
)

// Stalls

// undici looks at the clock once a second, so one try must do.
const patience = { guards: 'E15', ends: 'ERR_MODEL_NETWORK', requests: 1, stallMs: 250, retryDelaysMs: [] } as const
fault(
  'a first byte that comes late',
  { guards: 'D11', ends: 'right file', served: { firstByteAfterMs: 400 } },
  (scene) => scene.get(),
)
fault('nothing sent before the status line', patience, { kind: 'silent' })
fault('nothing more sent in the headers', patience, raw(inHeaders, 'stall'))
fault('nothing more sent after the headers', patience, { kind: 'stall', atByte: 0 })
fault('nothing more sent in the middle', patience, (scene) => ({ kind: 'stall', atByte: half(scene) }))
fault('nothing more sent before the last byte', patience, (scene) => ({ kind: 'stall', atByte: scene.file.bytes - 1 }))
fault(
  'nothing more sent in the middle, once',
  { ...patience, ends: 'right file', requests: 2, retryDelaysMs: [1] },
  (scene) => ({
    kind: 'stall',
    atByte: half(scene),
    times: 1,
  }),
)
fault(
  'one byte at a time',
  { guards: 'E15', ends: 'right file', requests: 1, bytes: 3_000, only: 'one piece' },
  {
    kind: 'pieces',
    bytes: 1,
  },
)

// Nobody there

fault('connection refused', { ends: 'ERR_MODEL_NETWORK', requests: 0 }, async (scene) => {
  const port = Number(new URL(scene.server.origin).port)
  await scene.server.close()
  scene.mends.push(async () => {
    const server = await ModelServer.start({ port })
    scene.t.after(() => server.close())
    server.serve(path, scene.file.path)
  })
  return scene.get()
})
fault('a host name that is not known', { ends: 'ERR_MODEL_NETWORK', requests: 0 }, (scene) => {
  const url = new URL(scene.url)
  url.hostname = 'models.invalid'
  scene.url = url.href
  // By and by it is.
  const lookup = (_: string, __: object, done: (error: null, addresses: object[]) => void) =>
    done(null, [{ address: '127.0.0.1', family: 4 }])
  scene.mends.push(() => useAgent(scene, { lookup: lookup as never }))
  return scene.get()
})
for (const how of ['close', 'reset'] as const) {
  fault(`hung up as soon as connected: ${how}`, { ends: 'ERR_MODEL_NETWORK', requests: 0 }, async (scene) => {
    scene.server.hangUp(how)
    const ending = await scene.get()
    assert.equal(scene.server.connections, 4)
    return ending
  })
}
fault('a proxy that is not there', { guards: 'D11', ends: 'ERR_MODEL_NETWORK', requests: 0 }, async (scene) => {
  const proxy = await ModelServer.start()
  await proxy.close()
  const before = { ...process.env }
  scene.mends.push(() => {
    for (const name of ['http_proxy', 'no_proxy']) delete process.env[name]
    Object.assign(process.env, before)
  })
  Object.assign(process.env, { http_proxy: proxy.origin, no_proxy: '' })
  return scene.get()
})

// TLS

const noOpenssl = {
  skip: process.platform === 'win32' && 'Windows has no program "openssl" to make a certificate with',
}

/** Connections of the caller's own making. */
function useAgent(scene: FaultScene, connect: { readonly ca?: string; readonly lookup?: never }): void {
  const dispatcher = new Agent({ connect })
  scene.t.after(() => dispatcher.destroy())
  scene.options = { ...scene.options, dispatcher }
}

async function tlsServer(scene: FaultScene, name = 'IP:127.0.0.1', port?: number) {
  const certificate = selfSigned(name)
  const server = await ModelServer.start({ tls: certificate, ...(port !== undefined && { port }) })
  scene.t.after(() => server.close())
  scene.url = server.serve(path, scene.file.path)
  return { server, ca: certificate.cert }
}

// It does not get better by waiting: a second try would come too late for the row.
const untrusted = { ends: 'ERR_MODEL_NETWORK', retryDelaysMs: [600_000], ...noOpenssl } as const
fault('a certificate that nobody has signed', untrusted, async (scene) => {
  const { ca } = await tlsServer(scene)
  scene.mends.push(() => useAgent(scene, { ca }))
  return scene.get()
})
fault('the certificate of another host', untrusted, async (scene) => {
  const { server, ca } = await tlsServer(scene, 'DNS:models.invalid')
  useAgent(scene, { ca })
  const ending = await scene.get()
  scene.mends.push(async () => {
    await server.close()
    const right = await tlsServer(scene)
    useAgent(scene, { ca: right.ca })
  })
  return ending
})
for (const how of ['close', 'reset'] as const) {
  fault(`hung up in the TLS handshake: ${how}`, { ends: 'ERR_MODEL_NETWORK', ...noOpenssl }, async (scene) => {
    const { server, ca } = await tlsServer(scene)
    useAgent(scene, { ca })
    server.hangUp(how)
    scene.mends.push(() => server.hangUp(undefined))
    return scene.get()
  })
}
fault('a TLS handshake that nobody answers', { ...patience, requests: 0, ...noOpenssl }, async (scene) => {
  const deaf = createServer((socket) => socket.on('error', () => {}).resume()).listen(0, '127.0.0.1')
  await once(deaf, 'listening')
  const { port } = deaf.address() as AddressInfo
  scene.url = `https://127.0.0.1:${port}${path}`
  scene.mends.push(async () => {
    const closed = once(deaf, 'close')
    deaf.close()
    await closed
    const { ca } = await tlsServer(scene, 'IP:127.0.0.1', port)
    useAgent(scene, { ca })
  })
  return scene.get()
})
fault('https asked of a server that speaks http', { ends: 'ERR_MODEL_NETWORK', requests: 0 }, (scene) => {
  const { url } = scene
  scene.url = url.replace('http:', 'https:')
  scene.mends.push(() => {
    scene.url = url
  })
  return scene.get()
})
fault('http asked of a server that speaks https', { ends: 'ERR_MODEL_NETWORK', ...noOpenssl }, async (scene) => {
  const { ca } = await tlsServer(scene)
  const { url } = scene
  scene.url = url.replace('https:', 'http:')
  scene.mends.push(() => {
    scene.url = url
    useAgent(scene, { ca })
  })
  return scene.get()
})
fault(
  'a redirect from https to http, and credentials',
  { guards: 'E19', ends: 'right file', ...noOpenssl },
  async (scene) => {
    const { server, ca } = await tlsServer(scene)
    useAgent(scene, { ca })
    server.fault(path, { kind: 'redirect', to: `${scene.server.origin}${path}` })
    scene.source = { headers: { authorization: 'Bearer secret' } }
    const ending = await scene.get()
    assert.equal(server.requests(path)[0]?.headers.authorization, 'Bearer secret')
    assert.ok(scene.server.requests(path).every(({ headers }) => headers.authorization === undefined))
    return ending
  },
)

// Aborts, at moments when a server leaves everybody waiting

async function abortSoon(scene: FaultScene, isTime: () => Promise<unknown>) {
  const controller = new AbortController()
  const download = scene.get({ signal: controller.signal, bodyTimeoutMs: 60_000, retryDelaysMs: [60_000] })
  await isTime()
  const begun = performance.now()
  controller.abort(scene.reason)
  const ending = await download
  const tookMs = performance.now() - begun
  assert.ok(tookMs < 5_000, `ended ${tookMs} ms after the abort`)
  return ending
}
fault('aborted before the answer', { ends: 'aborted', requests: 1 }, (scene) => {
  scene.server.fault(path, { kind: 'silent' })
  return abortSoon(scene, () => scene.server.requested(path))
})
fault('aborted in the headers', { ends: 'aborted', requests: 1 }, (scene) => {
  scene.server.fault(path, raw(inHeaders, 'stall'))
  return abortSoon(scene, () => scene.server.requested(path))
})
fault('aborted in the body', { ends: 'aborted' }, (scene) => {
  scene.server.pause(path, half(scene))
  return abortSoon(scene, () => scene.server.reached(path, half(scene)))
})
fault('aborted between two tries', { ends: 'aborted', requests: 1 }, (scene) => {
  scene.server.fault(path, { kind: 'status', status: 503 })
  return abortSoon(scene, async () => {
    await scene.server.requested(path)
    await scene.server.idle(path)
  })
})
fault('aborted while nobody answers the TLS handshake', { ends: 'aborted', requests: 0 }, async (scene) => {
  const deaf = createServer().listen(0, '127.0.0.1')
  await once(deaf, 'listening')
  scene.t.after(() => deaf.close())
  const connected = once(deaf, 'connection') as Promise<[Socket]>
  const { url } = scene
  scene.url = `https://127.0.0.1:${(deaf.address() as AddressInfo).port}${path}`
  scene.mends.push(() => {
    scene.url = url
  })
  const ending = await abortSoon(scene, () => connected)
  const [socket] = await connected
  socket.resume()
  await until('the connection is given up', () => socket.destroyed || socket.readableEnded)
  socket.destroy()
  return ending
})
fault('aborted while the bytes are checked', { ends: 'aborted' }, async (scene) => {
  const controller = new AbortController()
  return scene.get({
    signal: controller.signal,
    onProgress: ({ phase }) => phase === 'verifying' && controller.abort(scene.reason),
  })
})
fault('aborted while it is published', { ends: ['aborted', 'right file'] }, async (scene) => {
  const controller = new AbortController()
  return scene.get({
    signal: controller.signal,
    onProgress: ({ phase }) => phase === 'publishing' && controller.abort(scene.reason),
  })
})
