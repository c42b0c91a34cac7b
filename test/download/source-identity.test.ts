// Which sources are one: how a request is signed does not count, and what asks for another file does.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { resolveSource } from '../support/download-internals.ts'
import { runs } from '../support/properties.ts'

const none = { HF_TOKEN: 'none' }
const idOf = (url: string, env = {}) => {
  const { key, placeKey } = resolveSource(url, { ...none, ...env })
  return { key, placeKey }
}

test('a new signature is the same source, whatever service signed', () => {
  const plain = idOf('https://x.test/m.gguf')
  assert.equal(plain.key, plain.placeKey)
  const signed = [
    'X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a&X-Amz-Date=20240101T000000Z&X-Amz-Expires=60&X-Amz-Signature=s',
    'x-amz-security-token=t&X-AMZ-SIGNATURE=s',
    'X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=a&X-Goog-Date=d&X-Goog-Expires=1&X-Goog-Signature=s',
    'Expires=1&Signature=s&Key-Pair-Id=k',
    'Policy=p&Signature=s&Key-Pair-Id=k',
    'AWSAccessKeyId=a&Expires=1&Signature=s',
    'sv=2022-11-02&st=a&se=b&sr=b&sp=r&sig=s',
    'SV=2022-11-02&SE=b&SR=b&SP=r&SIG=s',
    'sv=1&skoid=a&sktid=b&skt=c&ske=d&sks=b&skv=1&se=b&sr=b&sp=r&spr=https&sig=s',
    'download=true',
    'download',
  ]
  for (const query of signed) assert.deepEqual(idOf(`https://x.test/m.gguf?${query}`), plain, query)
  assert.deepEqual(idOf('https://me:pw@x.test/m.gguf#a'), plain)
})

test('any other parameter tells two models apart, beside a signature too', () => {
  const urls = [
    'https://x.test/download',
    'https://x.test/download?id=1',
    'https://x.test/download?id=2',
    'https://x.test/download?id=1&id=2',
    'https://x.test/download?versionId=1&X-Amz-Signature=s',
    'https://x.test/download?versionId=2&X-Amz-Signature=s',
    // These names sign beside a signature only.
    'https://x.test/download?st=1',
    'https://x.test/download?st=2',
    'https://x.test/download?Policy=a',
    'https://x.test/download?Expires=1&Key-Pair-Id=1',
    'https://x.test/download?download=a.gguf',
  ].map((url) => idOf(url))
  assert.equal(new Set(urls.map(({ key }) => key)).size, urls.length)
  assert.equal(new Set(urls.map(({ placeKey }) => placeKey)).size, 1)
  assert.notEqual(idOf('https://x.test/a').placeKey, idOf('https://y.test/a').placeKey)
  assert.notEqual(idOf('https://x.test/a').key, idOf('http://x.test/a').key)
})

test('property: neither the order of parameters nor a signature among them changes the key', () => {
  const word = fc.string({ unit: fc.constantFrom(...'abz09 +&=%/é'), maxLength: 5 })
  const parameters = fc.uniqueArray(fc.tuple(word, word), { selector: ([name]) => name, maxLength: 6 })
  fc.assert(
    fc.property(parameters, fc.nat(), word, (all, seed, signature) => {
      const shuffled = [...all, ['X-Amz-Signature', signature] as const]
      for (let at = shuffled.length - 1, random = seed; at > 0; at--, random = (random * 16807 + 1) % 2147483647) {
        const other = random % (at + 1)
        ;[shuffled[at], shuffled[other]] = [shuffled[other] as never, shuffled[at] as never]
      }
      const url = (pairs: readonly (readonly [string, string])[]) => {
        const query = new URLSearchParams()
        for (const [name, value] of pairs) query.append(name.startsWith('X-') ? name : `p${name}`, value)
        return `https://x.test/m.gguf?${query}`
      }
      assert.deepEqual(idOf(url(shuffled)), idOf(url(all)))
    }),
    runs(200),
  )
})

test('a file on the hub is the same one by every host, and another one of each revision', () => {
  const main = idOf('hf:ann/repo/q4/m.gguf')
  assert.equal(main.key, main.placeKey)
  const same: [string, object?][] = [
    ['hf:ann/repo/q4/m.gguf#main'],
    ['hf://ann/repo/q4/m.gguf', { HF_ENDPOINT: 'https://mirror.test/hub' }],
    ['huggingface:ann/repo/q4/m.gguf', { MODEL_ENDPOINT: 'https://models.test' }],
    ['https://huggingface.co/ann/repo/resolve/main/q4/m.gguf'],
    ['https://huggingface.co/ann/repo/resolve/main/q4/m.gguf', { HF_ENDPOINT: 'https://mirror.test/hub' }],
    ['https://mirror.test/hub/ann/repo/resolve/main/q4/m.gguf', { HF_ENDPOINT: 'https://mirror.test/hub' }],
  ]
  for (const [text, env] of same) assert.deepEqual(idOf(text, env), main, text)
  const others = [
    'hf:ann/repo/q4/m.gguf#v2',
    'hf:ann/repo/m.gguf#q4',
    'hf:ann/repo/q4/m.gguf%23v2',
    'hf:ann/q4/repo/m.gguf',
  ]
  assert.equal(new Set([main.key, ...others.map((text) => idOf(text).key)]).size, others.length + 1)
})

test('the distinct name is a function of the source, and one for all parts of a split model', () => {
  const source = resolveSource('https://x.test/m.gguf', none)
  assert.equal(source.suffix, source.key.slice(0, 8))
  assert.equal(source.distinctName, `m.${source.suffix}.gguf`)
  assert.equal(source.isNamed, false)
  const named = resolveSource({ url: 'https://x.test/m.gguf', fileName: 'mine.bin' }, none)
  assert.deepEqual([named.isNamed, named.distinctName], [true, `mine.${source.suffix}.bin`])
})
