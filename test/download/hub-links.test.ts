// Web addresses of the hub are the `hf:` sources that they stand for, by whichever of its hosts.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { resolveRequest, resolveSource } from '../support/download-internals.ts'

const none = { HF_TOKEN: 'none' }
const mirror = { ...none, HF_ENDPOINT: 'https://mirror.test/hub' }

test('a link to a file or to its page leads to the same file and name as the words do', () => {
  const words = resolveSource('hf:ann/repo/q4/m.gguf', none)
  const hosts = ['https://huggingface.co', 'https://hf.co', 'https://www.huggingface.co', 'http://huggingface.co']
  for (const host of hosts) {
    for (const rest of [
      'resolve/main/q4/m.gguf',
      'resolve/main/q4/m.gguf?download=true',
      'blob/main/q4/m.gguf?a=b#L1',
    ]) {
      const link = resolveSource(`${host}/ann/repo/${rest}`, none)
      assert.deepEqual([link.url, link.key, link.fileName], [words.url, words.key, words.fileName], `${host} ${rest}`)
      // Where a mirror is set, it is asked.
      assert.equal(
        resolveSource(`${host}/ann/repo/${rest}`, mirror).url,
        'https://mirror.test/hub/ann/repo/resolve/main/q4/m.gguf',
      )
    }
  }
  const both = { ...mirror, MODEL_ENDPOINT: 'https://models.test/' }
  for (const base of ['https://mirror.test/hub', 'https://models.test']) {
    const link = resolveSource(`${base}/ann/repo/resolve/main/q4/m.gguf`, both)
    assert.deepEqual([link.key, link.fileName], [words.key, words.fileName])
  }
})

test('the name that a link had as a plain URL is told, so that a file under it is found', () => {
  const link = resolveSource('https://huggingface.co/ann/repo/resolve/main/q4/my%20m.gguf?download=true', mirror)
  assert.equal(link.plainName, 'my m.gguf')
  assert.equal(link.plainLabel, 'https://huggingface.co/ann/repo/resolve/main/q4/my%20m.gguf')
  assert.equal(link.fileName, 'hf_ann_repo_q4_my m.gguf')
  assert.equal(resolveSource('hf:ann/repo/q4/m.gguf', none).plainName, undefined)
  assert.equal(resolveSource('https://huggingface.co/ann/repo/blob/main/m.gguf', none).plainName, undefined)
})

test('a `#` in a revision or a path is one, and so is an encoded slash of a revision', () => {
  const cases: [string, string, string][] = [
    ['https://huggingface.co/ann/repo/blob/main/a%23b.gguf', 'main', 'a%23b.gguf'],
    ['https://huggingface.co/ann/repo/resolve/fix%2F%231/a%23b.gguf', 'fix%2F%231', 'a%23b.gguf'],
    ['https://huggingface.co/ann/repo/resolve/refs%2Fpr%2F1/m.gguf', 'refs%2Fpr%2F1', 'm.gguf'],
    ['https://huggingface.co/ann/repo/resolve/refs/pr/1/m.gguf', 'refs%2Fpr%2F1', 'm.gguf'],
    ['hf:ann/repo/a%23b.gguf', 'main', 'a%23b.gguf'],
    ['hf:ann/repo/a.gguf#fix/#1', 'fix%2F%231', 'a.gguf'],
    ['hf:ann/repo/a.gguf#fix/%231', 'fix%2F%231', 'a.gguf'],
  ]
  for (const [text, revision, path] of cases) {
    assert.equal(resolveSource(text, none).url, `https://huggingface.co/ann/repo/resolve/${revision}/${path}`, text)
  }
})

test('what else a host of the hub has is a plain URL, and a repository is a tag', () => {
  const plain = [
    'https://huggingface.co/ann/repo/raw/main/m.gguf',
    'https://huggingface.co/datasets/ann/repo/resolve/main/m.gguf',
    'https://huggingface.co/ann/repo/resolve/main/m.gguf?other=1',
    'https://huggingface.co:8443/ann/repo/resolve/main/m.gguf',
    'https://mirror.test/other/ann/repo/resolve/main/m.gguf',
    'https://huggingface.co.evil.test/ann/repo/resolve/main/m.gguf',
  ]
  for (const url of plain) {
    const source = resolveSource(url, mirror)
    assert.deepEqual([source.url, source.fileName], [url, 'm.gguf'])
  }
  for (const text of ['https://hf.co/ann/repo', 'https://huggingface.co/ann/repo:latest', 'hf.co/ann/repo']) {
    const request = resolveRequest(text, '/models', mirror)
    assert.ok(request.kind === 'tag')
    assert.equal(request.url, 'https://mirror.test/hub/v2/ann/repo/manifests/latest')
    assert.equal(request.hub, 'https://mirror.test/hub/')
  }
})

test('what a link brings is for its own host: then the endpoint of the environment is not asked', () => {
  const at = (url: string) => new URL(url).host
  const withUser = resolveSource('https://me:pw@huggingface.co/ann/repo/resolve/main/m.gguf', mirror)
  assert.equal(at(withUser.url), 'huggingface.co')
  assert.deepEqual(withUser.credential, { value: `Basic ${btoa('me:pw')}`, from: 'the URL', isFound: false })
  const url = 'https://hf.co/ann/repo/blob/main/m.gguf'
  const withHeader = resolveSource({ url, headers: { 'X-Key': 'k' } }, mirror)
  assert.equal(withHeader.url, 'https://huggingface.co/ann/repo/resolve/main/m.gguf')
  assert.deepEqual(withHeader.headers, { 'x-key': 'k' })
  assert.equal(withHeader.key, resolveSource(url, mirror).key)
  const request = resolveRequest('https://me:pw@huggingface.co/ann/repo', '/models', mirror)
  assert.ok(request.kind === 'tag')
  assert.equal(at(request.url), 'huggingface.co')
  assert.equal(request.filesAt(['m.gguf'])[0].url, 'https://huggingface.co/ann/repo/resolve/main/m.gguf')
  assert.equal(request.credential?.from, 'the URL')
})

test('credentials say where they come from, and whether anybody gave them', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'os-mutex-token-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'token')
  // Two lines: the first one is the token.
  writeFileSync(path, '\ufeff hf_kept \r\nhf_older\n')
  const of = (env: Record<string, string>, source: Parameters<typeof resolveSource>[0] = 'hf:ann/repo/m.gguf') =>
    resolveSource(source, env)
  const cases: [ReturnType<typeof of>, string, string, boolean][] = [
    [of({ HF_HOME: folder }), 'Bearer hf_kept', path, true],
    [of({ HF_TOKEN_PATH: path }), 'Bearer hf_kept', path, true],
    [of({ HF_HOME: folder, HF_TOKEN: ' hf_named\nx' }), 'Bearer hf_named', 'HF_TOKEN', true],
    [of({ HF_TOKEN: 'x', HF_ENDPOINT: 'https://me:pw@hub.test' }), `Basic ${btoa('me:pw')}`, 'HF_ENDPOINT', false],
    [of({ HF_TOKEN: 'x', MODEL_ENDPOINT: 'https://me@hub.test' }), `Basic ${btoa('me:')}`, 'MODEL_ENDPOINT', false],
    [of({ HF_TOKEN: 'x' }, { url: 'hf:a/b/m.gguf', headers: { Authorization: 'own' } }), 'own', '`headers`', false],
  ]
  for (const [source, value, from, isFound] of cases) {
    assert.deepEqual(source.credential, { value, from, isFound })
    assert.equal(source.headers.authorization, value)
    assert.doesNotMatch(source.url + source.label, /pw|me@/)
  }
  const error = { code: 'ERR_MODEL_INVALID_SOURCE', message: /^The token of the hub in HF_TOKEN has characters/ }
  assert.throws(() => of({ HF_TOKEN: 'sec\u0007ret' }), error)
})
