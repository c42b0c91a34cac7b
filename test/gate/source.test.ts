// What a model can be asked for by: a tag of the hub, all parts of a split model, a path.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { EnsureModelOptions, ModelProgress } from 'os-mutex/llama'
import { partialsIn } from '../support/download-folder.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const KiB = 1024

clearDownloadVariables()

test('a tag leads to the file that the hub names, and is remembered', async () => {
  await using scene = await GateScene.create()
  const { server, gate } = scene
  process.env.HF_TOKEN = 'hf_secret'
  const model = scene.model()
  const asked = scene.tag('ann/Tiny-GGUF/manifests/Q4_K_M', { ggufFile: { rfilename: 'q4/tiny-q4_k_m.gguf' } })
  const path = '/ann/Tiny-GGUF/resolve/main/q4/tiny-q4_k_m.gguf'
  server.serve(path, model.path)
  const file = await gate.ensureModel('hf:ann/Tiny-GGUF:Q4_K_M')
  assert.equal(file.path, join(scene.folder.models, 'hf_ann_Tiny.Q4_K_M.gguf'))
  assert.equal(file.sha256, model.sha256)
  assert.equal(server.requests(asked)[0]?.headers['user-agent'], 'llama-cpp')
  assert.equal(server.requests(asked)[0]?.headers.authorization, 'Bearer hf_secret')
  assert.equal(server.requests(path)[0]?.headers.authorization, 'Bearer hf_secret')

  process.env.HF_HUB_OFFLINE = '1'
  for (const options of [{}, { fetch: 'never' }] satisfies EnsureModelOptions[]) {
    assert.deepEqual((await gate.ensureModel('hf:ann/Tiny-GGUF:Q4_K_M', options)).cached, true)
  }
  assert.equal(
    (await gate.ensureModel('hf:ann/Tiny-GGUF/q4/tiny-q4_k_m.gguf', { fetch: 'if-missing' }).catch((e) => e)).code,
    'ERR_MODEL_NOT_FOUND',
  )
  assert.deepEqual([server.requests(asked).length, server.requests(path).length], [1, 1])
  const kept = [...scene.files, ...readdirSync(scene.folder.models).filter((name) => name.endsWith('.json'))].map(
    (name) => readFileSync(join(scene.folder.models, name), 'latin1'),
  )
  assert.ok(!kept.some((text) => text.includes('hf_secret')))
})

test("a tag's note has no user info, and serves for another host of the hub only where the hub can't be asked", async () => {
  await using scene = await GateScene.create()
  const { server, gate } = scene
  const model = scene.model()
  const asked = scene.tag('ann/tiny/manifests/Q8_0', { ggufFile: { rfilename: 'tiny.gguf' } })
  server.serve('/ann/tiny/resolve/main/tiny.gguf', model.path)
  process.env.HF_ENDPOINT = server.origin.replace('//', '//robot:pa55word@')
  await gate.ensureModel('hf:ann/tiny:Q8_0')
  const note = readFileSync(join(scene.folder.models, '.hf_ann_tiny_tiny.Q8_0.os-mutex-hub.json'), 'utf8')
  assert.deepEqual(JSON.parse(note), { version: 1, endpoint: `${server.origin}/`, file: 'tiny.gguf' })
  // Other user info, the same hub.
  process.env.HF_ENDPOINT = server.origin
  assert.equal((await gate.ensureModel('hf:ann/tiny:Q8_0')).cached, true)
  assert.equal(server.requests(asked).length, 1)
  delete process.env.HF_ENDPOINT
  process.env.HF_HUB_OFFLINE = '1'
  const file = await gate.ensureModel('hf:ann/tiny:Q8_0')
  assert.deepEqual([file.cached, file.sha256], [true, model.sha256])
})

test('a repository without a tag, by any way of writing it, is the file that the hub recommends', async () => {
  await using scene = await GateScene.create()
  const model = scene.model()
  scene.tag('ann/tiny/manifests/latest', { ggufFile: { rfilename: 'tiny.Q4_K_M.gguf' } })
  scene.server.serve('/ann/tiny/resolve/main/tiny.Q4_K_M.gguf', model.path)
  for (const source of ['hf:ann/tiny', 'hf://ann/tiny', 'huggingface:ann/tiny', `${scene.server.origin}/ann/tiny`]) {
    const file = await scene.gate.ensureModel(source)
    assert.equal(file.sha256, model.sha256, source)
    assert.equal(file.path, join(scene.folder.models, 'hf_ann_tiny_tiny.Q4_K_M.gguf'))
  }
  const page = await scene.gate.ensureModel(`${scene.server.origin}/ann/tiny/blob/main/tiny.Q4_K_M.gguf`)
  assert.equal(page.sha256, model.sha256)
})

test('`always` asks for a tag again, and follows it to another file', async () => {
  await using scene = await GateScene.create()
  const [one, two] = [scene.model(), scene.model()]
  scene.server.serve('/ann/tiny/resolve/main/one.gguf', one.path)
  scene.server.serve('/ann/tiny/resolve/main/two.gguf', two.path)
  scene.tag('ann/tiny/manifests/Q8_0', { ggufFile: { rfilename: 'one.gguf' } })
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0')).sha256, one.sha256)
  scene.tag('ann/tiny/manifests/Q8_0', { ggufFile: { rfilename: 'two.gguf' } })
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0')).sha256, one.sha256)
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0', { fetch: 'always' })).sha256, two.sha256)
  assert.equal((await scene.gate.ensureModel('hf:ann/tiny:Q8_0')).sha256, two.sha256)
})

test('a tag that the hub does not have, or answers with something else, is an error', async () => {
  await using scene = await GateScene.create()
  await assert.rejects(scene.gate.ensureModel('hf:ann/tiny:Q9'), {
    code: 'ERR_MODEL_HTTP_STATUS',
    status: 404,
    message: /the hub has no ann\/tiny with a file Q9/,
  })
  const wrong = [
    {},
    { ggufFile: null },
    { ggufFile: { rfilename: '../../x.gguf' } },
    { ggufFile: { rfilename: '' } },
    'x',
    null,
  ]
  for (const answer of wrong) {
    scene.tag('ann/tiny/manifests/Q8_0', answer)
    await assert.rejects(scene.gate.ensureModel('hf:ann/tiny:Q8_0'), { code: 'ERR_MODEL_BAD_RESPONSE' })
  }
  await assert.rejects(scene.gate.ensureModel('hf:ann/tiny:Q8_0', { fetch: 'never' }), { code: 'ERR_MODEL_NOT_FOUND' })
  assert.deepEqual(readdirSync(scene.folder.models), [])
})

test('a split model comes whole, under one lock, with one progress, whichever part is named', async () => {
  await using scene = await GateScene.create()
  const parts = [scene.model(), scene.model(), scene.model()]
  const nameOf = (index: number) => `big-0000${index + 1}-of-00003.gguf`
  const urls = parts.map((part, index) => scene.server.serve(`/${nameOf(index)}`, part.path))
  const events: ModelProgress[] = []
  const file = await scene.gate.ensureModel(urls[1] ?? '', { onProgress: (event) => events.push(event) })
  assert.equal(file.path, join(scene.folder.models, nameOf(0)))
  assert.equal(file.sha256, undefined)
  assert.deepEqual(
    file.parts?.map(({ path, sha256 }) => [path, sha256]),
    parts.map(({ sha256 }, index) => [join(scene.folder.models, nameOf(index)), sha256]),
  )
  const whole = parts.reduce((sum, { bytes }) => sum + bytes, 0)
  assert.equal(file.bytes, whole)
  // From phase to phase it may fall: what is here need not be hashed yet.
  const falls = events.filter(
    ({ done, phase }, at) => phase === events[at - 1]?.phase && done < (events[at - 1]?.done ?? 0),
  )
  assert.deepEqual(falls, [])
  // Before the server has told it there is none.
  assert.ok(events.every(({ total, phase }) => total === whole || (total === undefined && phase === 'resolving')))
  assert.equal(events.at(-1)?.done, whole)
  const asked = urls.map((_, index) => scene.server.requests(`/${nameOf(index)}`).length)
  assert.equal((await scene.gate.ensureModel(urls[0] ?? '')).cached, true)
  assert.deepEqual(
    urls.map((_, index) => scene.server.requests(`/${nameOf(index)}`).length),
    asked,
  )
})

test('of a split model only what is missing is fetched, and a missing part is known before the first byte is kept', async () => {
  await using scene = await GateScene.create()
  const parts = [scene.model(), scene.model()]
  const [first = '', second = ''] = ['/m-00001-of-00002.gguf', '/m-00002-of-00002.gguf']
  const url = scene.server.serve(first, parts[0]?.path ?? '')
  await assert.rejects(scene.gate.ensureModel(url), { code: 'ERR_MODEL_HTTP_STATUS', status: 404 })
  assert.deepEqual(readdirSync(scene.folder.models), ['.locks'])
  scene.server.serve(second, parts[1]?.path ?? '')
  scene.server.pause(second, 100 * KiB)
  const controller = new AbortController()
  const reason = new Error('enough')
  const aborted = scene.gate.ensureModel(url, {
    signal: controller.signal,
    onProgress: ({ done }) => {
      if (done > (parts[0]?.bytes ?? 0)) controller.abort(reason)
    },
  })
  await assert.rejects(aborted, (error) => error === reason)
  // No part without the others; what came stays.
  assert.deepEqual(
    scene.files.filter((name) => name.endsWith('.gguf')),
    [],
  )
  assert.ok(partialsIn(scene.folder.models).some(({ bytes }) => bytes === parts[0]?.bytes))
  await scene.server.idle(second)
  scene.server.resume(second)
  const served = scene.server.bytesServed(first)
  const file = await scene.gate.ensureModel(url)
  // Without a hash the last byte of a whole part is asked for again: that shows that the server still has this version.
  assert.equal(scene.server.bytesServed(first) - served, 1)
  assert.ok(file.downloadedBytes < (parts[1]?.bytes ?? 0))
  for (const given of [{ sha256: '0'.repeat(64) }, { bytes: 5 }]) {
    await assert.rejects(scene.gate.ensureModel({ url, ...given }), { code: 'ERR_MODEL_INVALID_SOURCE' })
  }
  const named = await scene.gate.ensureModel({ url, fileName: 'mine.gguf' })
  assert.equal(named.path, join(scene.folder.models, 'mine-00001-of-00002.gguf'))
})

test('a path is a source: absolute, a file: URL, or the bare name of a file in the models folder', async () => {
  await using scene = await GateScene.create()
  const model = scene.model()
  const inside = makeTinyGguf({ path: join(scene.folder.models, 'here.gguf'), bytes: 256 * KiB, seed: 99 })
  for (const source of [model.path, pathToFileURL(model.path).href]) {
    const file = await scene.gate.ensureModel(source)
    assert.deepEqual([file.path, file.bytes, file.cached, file.sha256], [model.path, model.bytes, true, undefined])
  }
  assert.equal((await scene.gate.ensureModel('here.gguf')).path, inside.path)
  assert.equal((await scene.gate.ensureModel({ url: model.path, sha256: model.sha256 })).sha256, model.sha256)
  await assert.rejects(scene.gate.ensureModel({ url: model.path, sha256: inside.sha256 }), {
    code: 'ERR_MODEL_HASH_MISMATCH',
  })
  await assert.rejects(scene.gate.ensureModel({ url: model.path, bytes: 7 }), { code: 'ERR_MODEL_SIZE_MISMATCH' })
  await assert.rejects(scene.gate.ensureModel('gone.gguf'), {
    code: 'ERR_MODEL_NOT_FOUND',
    message: /a path is not downloaded/,
  })
  const text = join(scene.folder.path, 'text.gguf')
  writeFileSync(text, 'not a model')
  await assert.rejects(scene.gate.ensureModel(text), { code: 'ERR_MODEL_NOT_GGUF' })
  assert.equal(readFileSync(text, 'utf8'), 'not a model')
})

test('options that make no sense are refused', async () => {
  await using scene = await GateScene.create()
  const url = scene.server.serve('/m.gguf', scene.model().path)
  const wrong = [
    { connections: 0 },
    { connections: 1.5 },
    { connections: 33 },
    { fetch: 'sometimes' },
    { timeoutMs: -1 },
  ]
  for (const options of wrong) {
    await assert.rejects(scene.gate.ensureModel(url, options as EnsureModelOptions), {
      code: 'ERR_MUTEX_INVALID_ARGUMENT',
    })
  }
  const split = url.replace('m.gguf', 'm-00001-of-00002.gguf')
  await assert.rejects(scene.gate.ensureModel(split, { mirrorTo: './x.gguf' }), { code: 'ERR_MUTEX_INVALID_ARGUMENT' })
})
