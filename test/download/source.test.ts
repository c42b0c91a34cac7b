import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ModelSource, resolveSource } from '../support/download-internals.ts'

const none = {}

test('a URL names its file by its last part', () => {
  const source = resolveSource('https://example.org/a/my%20model.gguf?download=true#x', none)
  assert.equal(source.url, 'https://example.org/a/my%20model.gguf?download=true')
  assert.equal(source.label, 'https://example.org/a/my%20model.gguf')
  assert.equal(source.fileName, 'my model.gguf')
  assert.deepEqual(source.headers, {})
})

test('hf: sources lead to the hub or its mirror, and are named as node-llama-cpp names them', () => {
  const cases: [string, string, string][] = [
    ['hf:ann/Phi-GGUF/phi-q4.gguf', 'ann/Phi-GGUF/resolve/main/phi-q4.gguf', 'hf_ann_phi-q4.gguf'],
    ['hf:ann/repo/q4/x y.gguf', 'ann/repo/resolve/main/q4/x%20y.gguf', 'hf_ann_repo_q4_x y.gguf'],
    ['hf:ann/repo/m/m.gguf#refs/pr/1', 'ann/repo/resolve/refs%2Fpr%2F1/m/m.gguf', 'hf_ann_repo_refs!pr!1_m.gguf'],
  ]
  for (const [given, path, fileName] of cases) {
    const source = resolveSource(given, none)
    assert.equal(source.url, `https://huggingface.co/${path}`)
    assert.equal(source.fileName, fileName)
    assert.equal(resolveSource(given, { HF_ENDPOINT: 'https://hub.test/x' }).url, `https://hub.test/x/${path}`)
    const both = { HF_ENDPOINT: 'https://hub.test', MODEL_ENDPOINT: 'https://models.test/' }
    assert.equal(resolveSource(given, both).url, `https://models.test/${path}`)
  }
})

test('a name that means something else on Windows is refused on every system, and one that only looks so is not', () => {
  const url = 'https://x.test/m.gguf'
  const refused = [
    'con',
    'CON.gguf',
    'Nul.tar.gguf',
    'aux.gguf',
    'prn',
    'com1.gguf',
    'COM0',
    'lpt9.gguf',
    'lpt².gguf',
    'nul .gguf',
    'CONIN$',
    'conout$.gguf',
    'clock$',
    'MODEL~1.GGU',
    'model~12',
    'a~1.x',
    'x:y',
    'x.gguf:stream',
    'name.',
    'name. .',
  ]
  for (const fileName of refused) {
    const error = { code: 'ERR_MODEL_INVALID_SOURCE', message: /cannot name a model file; give a `fileName`/ }
    assert.throws(() => resolveSource({ url, fileName }, none), error, fileName)
    assert.throws(() => resolveSource(`https://x.test/${encodeURIComponent(fileName)}`, none), error, fileName)
  }
  const taken = [
    'console.gguf',
    'com10.gguf',
    'my con.gguf',
    'auxiliary',
    'a~1.gguf',
    'model~x.ggu',
    'long-model~1.ggu',
    '~.gguf',
  ]
  for (const fileName of taken) assert.equal(resolveSource({ url, fileName }, none).fileName, fileName)
  assert.equal(resolveSource('hf:ann/repo/con.gguf', none).fileName, 'hf_ann_repo_con.gguf')
})

test('sources are told apart by their whole URL', () => {
  const key = (url: string) => resolveSource(url, none).key
  assert.notEqual(key('https://x.test/m.gguf?a'), key('https://x.test/m.gguf?b'))
  assert.equal(key('https://me:pw@x.test/m.gguf#a'), key('https://x.test/m.gguf'))
})

test('what is no source, or leads out of the folder, is refused', () => {
  const url = 'https://x.test/m.gguf'
  const wrong: unknown[] = [
    '',
    'm.gguf',
    '/models/m.gguf',
    'file:///m.gguf',
    'ftp://x.test/m.gguf',
    'https://x.test/',
    'https://x.test/a%2Fb.gguf',
    'https://x.test/..%2fb.gguf',
    'https://x.test/%00.gguf',
    'https://x.test/a%5Cb.gguf',
    'hf:',
    'hf:user/repo',
    'hf:user/repo:Q4_K_M',
    'hf:user//m.gguf',
    'hf:user/repo/../../m.gguf',
    undefined,
    null,
    7,
    {},
    { url: 7 },
    { url, sha256: 'abc' },
    { url, sha256: 'g'.repeat(64) },
    { url, bytes: 0 },
    { url, bytes: -1 },
    { url, bytes: 1.5 },
    { url, bytes: Number.NaN },
    { url, headers: { 'bad name': 'x' } },
    { url, headers: { name: 'bad\r\nvalue: secret' } },
    ...[
      '',
      '.',
      '..',
      'a/b',
      '/a',
      '../a',
      'a\\b',
      'C:a',
      'a\0b',
      'a\nb',
      'a.',
      'a ',
      'x'.repeat(201),
      '\ud800',
      7,
    ].map((fileName) => ({ url, fileName })),
  ]
  for (const source of wrong) {
    const error = (() => {
      try {
        return resolveSource(source as ModelSource, none)
      } catch (error) {
        return error
      }
    })() as { code?: string; message?: string }
    assert.equal(error.code, 'ERR_MODEL_INVALID_SOURCE', JSON.stringify(source))
    assert.doesNotMatch(error.message ?? '', /secret/)
  }
})
