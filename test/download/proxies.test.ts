// The proxy variables, as curl reads them.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import fc from 'fast-check'
import { proxiesOf } from '../support/download-internals.ts'
import { runs } from '../support/properties.ts'

type Env = Record<string, string>

test('an address may do without a scheme, and never shows its user info', () => {
  const cases: [string, string, string?, string?][] = [
    ['127.0.0.1:7890', 'http://127.0.0.1:7890'],
    ['localhost:7890', 'http://localhost:7890'],
    ['proxy', 'http://proxy'],
    ['http://proxy:3128/', 'http://proxy:3128'],
    ['HTTPS://proxy:3128', 'https://proxy:3128'],
    ['[::1]:3128', 'http://[::1]:3128'],
    ['http://me:p%40s%23s@proxy:3128', 'http://proxy:3128', 'me', 'p@s#s'],
    ['me:p@ss@proxy:3128', 'http://proxy:3128', 'me', 'p@ss'],
    ['http://me:100%@proxy:3128', 'http://proxy:3128', 'me', '100%'],
    ['socks5://proxy:1080', 'socks5://proxy:1080'],
    ['socks5h://me:pw@proxy:1080', 'socks5://proxy:1080', 'me', 'pw'],
    ['socks://proxy', 'socks5://proxy'],
  ]
  for (const [value, url, user = '', password = ''] of cases) {
    const { http } = proxiesOf({ http_proxy: value })
    const kind = url.startsWith('socks5') ? 'socks5' : 'http'
    assert.deepEqual(http, { kind, url, user, password, variable: 'http_proxy' }, value)
  }
})

test('each scheme has its variable, in small letters first; all_proxy is for both, and nothing means none', () => {
  const of = (env: Env) => {
    const { http, https } = proxiesOf(env)
    return [http, https].map((proxy) => proxy && `${proxy.variable}=${new URL(proxy.url).hostname}`)
  }
  assert.deepEqual(of({}), [undefined, undefined])
  assert.deepEqual(of({ HTTP_PROXY: 'a', https_proxy: 'b' }), ['HTTP_PROXY=a', 'https_proxy=b'])
  assert.deepEqual(of({ HTTP_PROXY: 'a', http_proxy: 'b' }), ['http_proxy=b', undefined])
  assert.deepEqual(of({ ALL_PROXY: 'c', HTTPS_PROXY: 'b' }), ['ALL_PROXY=c', 'HTTPS_PROXY=b'])
  assert.deepEqual(of({ ALL_PROXY: 'c', http_proxy: '', HTTP_PROXY: 'a' }), [undefined, 'ALL_PROXY=c'])
  assert.deepEqual(of({ ALL_PROXY: 'c', NO_PROXY: '*' }), [undefined, undefined])
})

test('no_proxy names hosts, what is below them, ports, addresses and ranges of them', () => {
  const isDirect = (no_proxy: string, url: string) => proxiesOf({ no_proxy }).isDirect(new URL(url))
  const direct: [string, string][] = [
    ['a.test', 'http://a.test/x'],
    ['a.test', 'https://b.a.test'],
    ['.a.test', 'https://a.test'],
    ['*.a.test', 'https://b.a.test'],
    ['b.test, A.TEST', 'https://a.test.'],
    ['b.test a.test:8080', 'http://a.test:8080'],
    ['a.test:443', 'https://a.test'],
    ['127.0.0.1', 'http://127.0.0.1:99'],
    ['10.0.0.0/8,192.168.0.0/16', 'http://10.1.2.3'],
    ['::1', 'http://[::1]:80'],
    ['[::1]:81', 'http://[::1]:81'],
    ['fd00::/8', 'http://[fd12::1]'],
  ]
  for (const [exceptions, url] of direct) assert.ok(isDirect(exceptions, url), `${exceptions} ${url}`)
  const proxied: [string, string][] = [
    ['', 'http://a.test'],
    ['a.test', 'http://ba.test'],
    ['a.test:8080', 'http://a.test'],
    ['10.0.0.0/8', 'http://11.0.0.1'],
    ['10.0.0.0/99', 'http://10.0.0.1'],
    ['::1', 'http://[::2]'],
    ['b.a.test', 'http://a.test'],
  ]
  for (const [exceptions, url] of proxied) assert.ok(!isDirect(exceptions, url), `${exceptions} ${url}`)
})

test('what is no address of a proxy is refused with the name of the variable', () => {
  const wrong = ['socks4://proxy:1', 'ftp://proxy', 'http://', 'http://proxy:port', 'proxy:99999', '://proxy']
  for (const value of wrong) {
    const error = { code: 'ERR_MODEL_NETWORK', message: /^The variable HTTPS_PROXY .* Proxies are http:\/\/host:port/ }
    assert.throws(() => proxiesOf({ HTTPS_PROXY: value }), error, value)
  }
})

test('property: no password gets into an error or an address, escaped or not', () => {
  const secret = fc.string({ unit: fc.constantFrom(...'#/?@: %&\\[]é"'), minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(secret, fc.constantFrom('http://', 'https://', 'socks5://', 'socks4://', ''), (marks, scheme) => {
      const password = `S3CR${marks}ET7`
      const shown = (() => {
        try {
          return inspect(proxiesOf({ http_proxy: `${scheme}me:${password}@proxy.test:3128` }).http?.url)
        } catch (error) {
          return inspect(error, { depth: 10, showHidden: true })
        }
      })()
      assert.doesNotMatch(shown, /S3CR|ET7/)
    }),
    runs(500),
  )
})
