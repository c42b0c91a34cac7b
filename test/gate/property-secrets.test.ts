// Whatever is asked for, in whichever way, and however it ends: no secret of the source or of the environment is in a
// file, an error, a message, an event or the process's title.
import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { LlamaModelGate, type ModelSource } from 'os-mutex/llama'
import { type ConnectProxy, startConnectProxy } from '../support/connect-proxy.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import type { Fault } from '../support/model-server.ts'
import { ModelServer } from '../support/model-server.ts'
import { runs } from '../support/properties.ts'

clearDownloadVariables()

interface Asked {
  readonly source: ModelSource
  readonly env?: Readonly<Record<string, string>>
}

interface Place {
  readonly host: string
  readonly proxy: string
}

/** `secret` has signs that a URL takes as they are; `raw` has any. */
type Kind = (secret: string, raw: string, place: Place) => Asked

const hubEnv = (secret: string, { host }: Place) => ({ HF_ENDPOINT: `http://me:${secret}@${host}` })

const kinds: Readonly<Record<string, Kind>> = {
  'a token and a file of the hub': (secret, _, { host }) => ({
    source: 'hf:ann/tiny/m.gguf',
    env: { HF_TOKEN: secret, HF_ENDPOINT: `http://${host}` },
  }),
  'an endpoint with user info and a file': (secret, _, place) => ({
    source: 'hf:ann/tiny/m.gguf',
    env: hubEnv(secret, place),
  }),
  'an endpoint with user info and a tag': (secret, _, place) => ({
    source: 'hf:ann/tiny:Q4_K_M',
    env: hubEnv(secret, place),
  }),
  'an endpoint with user info, by MODEL_ENDPOINT': (secret, _, { host }) => ({
    source: 'hf:ann/tiny',
    env: { MODEL_ENDPOINT: `http://${secret}@${host}/` },
  }),
  'an endpoint that is none': (_, raw) => ({
    source: 'hf:ann/tiny/m.gguf',
    env: { HF_ENDPOINT: `me:${raw}@hub.test` },
  }),
  'a link to the hub with user info': (secret, _, { host }) => ({
    source: `http://me:${secret}@${host}/ann/tiny/resolve/main/m.gguf?download=true`,
    env: { HF_ENDPOINT: `http://${host}` },
  }),
  'user info, query and fragment': (secret, _, { host }) => ({
    source: `http://me:${secret}@${host}/m.gguf?token=${secret}&X-Amz-Signature=${secret}#${secret}`,
  }),
  'a part of a split model': (secret, _, { host }) => ({
    source: `http://${secret}@${host}/m-00002-of-00002.gguf?sig=${secret}`,
  }),
  'a piece of a file': (secret, _, { host }) => ({
    source: `http://me:${secret}@${host}/m.gguf.part1of2?sig=${secret}`,
  }),
  headers: (secret, _, { host }) => ({
    source: { url: `http://${host}/m.gguf`, headers: { Authorization: `Bearer ${secret}`, 'X-Api-Key': secret } },
  }),
  'a header that is none': (secret, _, { host }) => ({
    source: { url: `http://${host}/m.gguf`, headers: { name: `${secret}\r\nx: ${secret}` } },
  }),
  'a proxy': (secret, _, { proxy }) => ({
    source: 'http://models.invalid/m.gguf',
    env: { HTTP_PROXY: `http://me:${secret}@${proxy}` },
  }),
  'a proxy that is none': (_, raw) => ({
    source: 'http://models.invalid/m.gguf',
    env: { HTTP_PROXY: `http://me:${raw}#${raw}@proxy.test:3128` },
  }),
  'a URL that is none': (_, raw) => ({ source: `https://me:${raw}@:x/m.gguf` }),
  'a URL of another kind': (_, raw) => ({ source: `ftp://me:${raw}@host/m.gguf` }),
  'a URL without its scheme': (_, raw) => ({ source: `me:${raw}@host/m.gguf` }),
  'a path with a query': (secret) => ({ source: `models/m.gguf?token=${secret}` }),
  'a URL of a file': (secret) => ({
    source: `file:///gone/m.gguf?token=${secret}#${secret}`,
    env: { HF_TOKEN: secret },
  }),
  'words of the hub that are none': (secret) => ({ source: `hf:ann/tiny/../m.gguf?token=${secret}#${secret}` }),
}

/** What the server does. It repeats what it was sent wherever it can. */
const endings: Readonly<Record<string, (secret: string, elsewhere: string) => Fault | undefined>> = {
  'the file': () => undefined,
  'a login page': () => ({ kind: 'html' }),
  'a compressed body': () => ({ kind: 'gzip' }),
  refusal: (secret) => ({
    kind: 'status',
    status: 403,
    headers: { 'x-error-message': `Bad token ${secret}, me:${secret}`, 'x-error-code': secret },
  }),
  'not found': (secret) => ({ kind: 'status', status: 404, headers: { 'x-error-message': secret } }),
  'a redirect to another host': (secret, elsewhere) => ({
    kind: 'redirect',
    to: `${elsewhere.replace('//', `//you:${secret}@`)}/moved.gguf?signature=${secret}`,
  }),
}

const paths = ['/m.gguf', '/m.gguf.part1of2', '/m.gguf.part2of2', '/m-00001-of-00002.gguf', '/m-00002-of-00002.gguf']
const hubPath = '/ann/tiny/resolve/main/m.gguf'
const tagPaths = ['ann/tiny/manifests/Q4_K_M', 'ann/tiny/manifests/latest']

test('property: no secret gets out, by whichever source and however it ends', async (t) => {
  await using scene = await GateScene.create()
  const elsewhere = await ModelServer.start()
  t.after(() => elsewhere.close())
  using proxy = await startConnectProxy(Number(new URL(scene.server.origin).port))
  const model = scene.model()
  elsewhere.serve('/moved.gguf', model.path)
  for (const path of [...paths, hubPath]) scene.server.serve(path, model.path)
  const tags = tagPaths.map((path) => scene.tag(path, { ggufFile: { rfilename: 'm.gguf' } }))
  const seen = listen(t)

  const core = fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: 8, maxLength: 8 })
  const marks = fc.string({ unit: fc.constantFrom(...'#/?@:% &\\'), maxLength: 3 })
  const cases = fc.tuple(
    fc.constantFrom(...Object.keys(kinds)),
    fc.constantFrom(...Object.keys(endings)),
    core,
    marks,
    fc.boolean(),
  )
  const run = async ([kind, ending, digits, signs, isTagHit]: readonly [string, string, string, string, boolean]) => {
    const secret = `S3CRET${digits}`
    const asked = kinds[kind]?.(secret, `S3CRET${signs}${digits}`, placeOf(scene, proxy))
    const fault = endings[ending]?.(secret, elsewhere.origin)
    for (const path of [...paths, hubPath]) scene.server.fault(path, fault)
    for (const path of tags) scene.server.fault(path, isTagHit ? fault : undefined)
    const models = join(scene.folder.path, `models-${digits}`)
    const [outcome, events] = await outcomeOf(asked, { ...scene.folder.options, modelsDirectory: models })
    const shown = [
      inspect(outcome, { depth: 10, showHidden: true }),
      JSON.stringify(outcome),
      String(outcome),
      inspect(events, { depth: 10 }),
      ...seen.splice(0),
      process.title,
      ...filesBelow(models),
      ...filesBelow(join(scene.folder.path, 'locks')),
    ].join('\n')
    const forbidden = ['S3CRET', digits, btoa(`me:${secret}`), btoa(`${secret}:`), btoa(`you:${secret}`)]
    // The name of the folder has the digits too, and is none of the secrets.
    const rest = shown.replaceAll(`models-${digits}`, '')
    for (const word of forbidden) assert.ok(!rest.includes(word), `${kind}, ${ending}: ${word} in\n${rest}`)
  }
  // Every kind with every ending at least once.
  for (const kind of Object.keys(kinds)) {
    for (const [index, ending] of Object.keys(endings).entries()) {
      await run([kind, ending, `${index}${kind.length}`.padEnd(8, 'f'), '#', index % 2 === 0])
    }
  }
  await fc.assert(fc.asyncProperty(cases, run), runs(60))
})

function placeOf({ server }: GateScene, { address }: ConnectProxy): Place {
  return { host: server.origin.slice('http://'.length), proxy: address }
}

async function outcomeOf(
  asked: Asked | undefined,
  options: ConstructorParameters<typeof LlamaModelGate>[0],
): Promise<[unknown, unknown[]]> {
  const before = { ...process.env }
  const events: unknown[] = []
  for (const name of ['HF_ENDPOINT', 'MODEL_ENDPOINT', 'HTTP_PROXY', 'HF_TOKEN']) delete process.env[name]
  Object.assign(process.env, asked?.env)
  try {
    const gate = new LlamaModelGate(options)
    const outcome = await gate
      .ensureModel(asked?.source ?? '', { onProgress: (event) => events.push(event) })
      .catch((error: unknown) => error)
    return [outcome, events]
  } finally {
    for (const name of ['HF_ENDPOINT', 'MODEL_ENDPOINT', 'HTTP_PROXY', 'HF_TOKEN']) delete process.env[name]
    Object.assign(process.env, before)
  }
}

/** All that goes to listeners: the channels, warnings, and what is printed. */
function listen(t: TestContext): string[] {
  const seen: string[] = []
  const note = (message: unknown) => seen.push(inspect(message, { depth: 10 }))
  const channels = ['download', 'load', 'acquire', 'wait', 'release', 'abandoned', 'timeout', 'lost']
  for (const name of channels) subscribe(`os-mutex:${name}`, note)
  process.on('warning', note)
  for (const name of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    t.mock.method(console, name, (...words: unknown[]) => note(words))
  }
  t.after(() => {
    for (const name of channels) unsubscribe(`os-mutex:${name}`, note)
    process.off('warning', note)
  })
  return seen
}

/** Names and contents. */
function filesBelow(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true, recursive: true }).flatMap((entry) => [
      entry.name,
      ...(entry.isFile() ? [readFileSync(join(entry.parentPath, entry.name), 'latin1')] : []),
    ])
  } catch {
    return []
  }
}
