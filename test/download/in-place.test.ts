// Sockets that are read in place, and those that are not, with all that makes undici stop within a chunk: each body has
// to come out byte by byte.
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import { Agent, type Dispatcher } from 'undici/index.js'
import { inPlaceConnector, streamConnector } from '#download/http/in-place'
import { selfSigned } from '../support/certificate.ts'
import { hasWholeTls } from '../support/runtimes.ts'

const MiB = 1024 * 1024
const content = randomBytes(3 * MiB)
const contentOf = (bytes: number) =>
  bytes <= content.length ? content.subarray(0, bytes) : Buffer.alloc(bytes, content)
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const certificate = selfSigned('IP:127.0.0.1')

/** What the last answer has sent so far. */
let sent = 0

/** How an answer is sent, by its URL: `/length/<bytes>/<bytes of a write>`. */
const answer: RequestListener = ({ url = '' }, response) => {
  const [, framing, bytes, piece] = url.split('/')
  const body = contentOf(Number(bytes))
  sent = 0
  if (framing === 'length') response.setHeader('content-length', body.length)
  if (framing === 'close') {
    response.useChunkedEncodingByDefault = false
    response.shouldKeepAlive = false
  }
  const pieces = function* () {
    for (; sent < body.length; sent += Number(piece)) yield body.subarray(sent, sent + Number(piece))
  }
  Readable.from(pieces(), { objectMode: false }).pipe(response)
}

const servers = { http: createServer(answer), https: createTlsServer(certificate, answer) }
function originOf(scheme: keyof typeof servers): string {
  const { port } = servers[scheme].address() as AddressInfo
  return `${scheme}://127.0.0.1:${port}`
}
const agents = {
  'in place': new Agent({ connect: inPlaceConnector({ ca: certificate.cert }) }),
  'as a stream': new Agent({ connect: streamConnector({ ca: certificate.cert }) }),
}
const ways = Object.keys(agents) as (keyof typeof agents)[]
before(async () => {
  for (const server of Object.values(servers)) await once(server.listen(0, '127.0.0.1'), 'listening')
})
after(async () => {
  for (const agent of Object.values(agents)) await agent.destroy()
  for (const server of Object.values(servers)) {
    server.closeAllConnections()
    server.close()
  }
})

/** How long; or until the promise is resolved. */
type Pause = 'no' | 'turn' | 'longer' | Promise<unknown>

/** Hashes each chunk within the call, as it is only valid there. Pauses where `pauses` says so. */
function sha256Of(
  way: keyof typeof agents,
  origin: string,
  path: string,
  pauses: (chunk: number) => Pause,
): Promise<string> {
  const hash = createHash('sha256')
  return new Promise((resolve, reject) => {
    let chunks = 0
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart: () => {},
      onResponseStart: () => {},
      onResponseData: (controller, chunk) => {
        // Undici tells some ends by one. To pause there is to pause behind the end.
        if (chunk.length === 0) return
        hash.update(chunk)
        // What is read next goes there.
        chunk.fill(0)
        const pause = pauses(chunks++)
        if (pause === 'no') return
        controller.pause()
        if (typeof pause === 'object') void pause.then(() => controller.resume())
        else if (pause === 'turn') setImmediate(() => controller.resume())
        else setTimeout(() => controller.resume(), 2)
      },
      onResponseEnd: () => resolve(hash.digest('hex')),
      onResponseError: (_, error) => reject(error),
    }
    agents[way].dispatch({ origin, path, method: 'GET' }, handler)
  })
}

for (const way of ways) {
  test(`${way}: bodies of all framings come out whole, however often the parser pauses`, async () => {
    const scheme = fc.constantFrom('http' as const, 'https' as const)
    const framing = fc.constantFrom('length', 'chunked', 'close')
    const bytes = fc.integer({ min: 1, max: 3 * MiB })
    const piece = fc.constantFrom(100, 1000, 16_384, 65_536, MiB)
    const pauses = fc.array(fc.constantFrom('no' as const, 'turn' as const, 'longer' as const), { minLength: 1 })
    await fc.assert(
      fc.asyncProperty(scheme, framing, bytes, piece, pauses, async (scheme, framing, most, piece, pauses) => {
        if (scheme === 'https' && !hasWholeTls) return
        // Not thousands of pauses.
        const bytes = Math.min(most, 500 * piece)
        const pausesAt = (chunk: number) => pauses[chunk % pauses.length] ?? 'no'
        const hash = await sha256Of(way, originOf(scheme), `/${framing}/${bytes}/${piece}`, pausesAt)
        assert.equal(hash, sha256(contentOf(bytes)))
      }),
      { numRuns: 50 },
    )
  })

  test(`${way}: one connection brings answer after answer`, async () => {
    for (let bytes = 1; bytes < 2 * MiB; bytes *= 7) {
      const hash = await sha256Of(way, originOf('http'), `/length/${bytes}/65536`, () => 'turn')
      assert.equal(hash, sha256(contentOf(bytes)))
    }
  })

  test(`${way}: a paused connection is read no further`, async () => {
    const bytes = 48 * MiB
    for (const scheme of ['http', 'https'] as const) {
      if (scheme === 'https' && !hasWholeTls) continue
      const stands = async () => {
        for (let before = -1; before !== sent; ) {
          before = sent
          await delay(200)
        }
      }
      let standing: Promise<void> | undefined
      let sentByThen = bytes
      const hash = await sha256Of(way, originOf(scheme), `/length/${bytes}/65536`, () => {
        if (standing !== undefined) return 'no'
        standing = stands().then(() => {
          sentByThen = sent
        })
        return standing
      })
      assert.ok(sentByThen < bytes / 2, `${sentByThen} bytes were on their way`)
      assert.equal(hash, sha256(contentOf(bytes)))
    }
  })
}
