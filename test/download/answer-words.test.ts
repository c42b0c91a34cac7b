import assert from 'node:assert/strict'
import { test } from 'node:test'
import { refusalWords, retryAfterOf, secretsOf } from '../support/download-internals.ts'

const headers = (given: Record<string, string>) => (name: string) => given[name]

test('how long to leave a server alone is read from Retry-After, by the clock of the server', () => {
  const date = 'Sat, 01 Jan 2000 00:00:00 GMT'
  const cases: [Record<string, string>, number | undefined][] = [
    [{}, undefined],
    [{ 'retry-after': '7' }, 7_000],
    [{ 'retry-after': 'Sat, 01 Jan 2000 00:00:09 GMT', date }, 9_000],
    [{ 'retry-after': 'Fri, 31 Dec 1999 00:00:00 GMT', date }, 0],
    [{ 'retry-after': 'soon' }, undefined],
    [{ 'retry-after': '-3' }, undefined],
  ]
  for (const [given, expected] of cases) assert.equal(retryAfterOf(headers(given)), expected, JSON.stringify(given))
})

test("the hub's RateLimit is read where nothing is left, in both forms", () => {
  const cases: [string, number | undefined][] = [
    ['"resolvers";r=0;t=60', 60_000],
    ['"resolvers"; r=0; t=12', 12_000],
    ['"pages";r=5;t=300', undefined],
    ['"pages";r=5;t=300, "resolvers";r=0;t=60', 60_000],
    ['"a";r=0;t=20,"b, c";r=0;t=30', 30_000],
    ['resolvers;r=0;t=9', 9_000],
    ['"resolvers";t=9', 9_000],
    ['limit=3000, remaining=0, reset=50', 50_000],
    ['limit=3000, remaining=1, reset=50', undefined],
    ['"resolvers";r=0', undefined],
    ['"resolvers";r=0;t=x', undefined],
    ['"resolvers";r=0;pt=5', undefined],
    ['', undefined],
  ]
  for (const [ratelimit, expected] of cases) assert.equal(retryAfterOf(headers({ ratelimit })), expected, ratelimit)
  assert.equal(retryAfterOf(headers({ 'retry-after': '1', ratelimit: '"x";r=0;t=60' })), 1_000)
})

test("the hub's reason is one clean line without what it repeats of a secret", () => {
  const words = (message: string, code?: string, secrets?: readonly string[]) =>
    refusalWords(headers({ 'x-error-message': message, ...(code && { 'x-error-code': code }) }), secrets)
  assert.equal(refusalWords(headers({})), undefined)
  assert.equal(refusalWords(headers({ 'x-error-code': 'GatedRepo' })), 'GatedRepo')
  assert.equal(
    words('Access to model a/b is restricted.', 'GatedRepo'),
    'Access to model a/b is restricted. (GatedRepo)',
  )
  assert.equal(words(' \u001b[31mred\r\n\u202egdf\u2066 \u200b '), '[31mred gdf')
  assert.equal(words('x'.repeat(5_000))?.length, 301)
  assert.equal(words('\u0000'), undefined)
  const secrets = secretsOf({
    url: 'https://x.test/m?sig=s%2Fg1',
    headers: { authorization: 'Bearer hf_abc', one: `Basic ${btoa('me:pa55')}`, two: `Basic ${btoa('t0ken:')}` },
  })
  const told = words('Bearer hf_abc, hf_abc, me:pa55, pa55, t0ken, s/g1, s%2Fg1 are no tokens', 'hf_abc', secrets)
  assert.doesNotMatch(told ?? '', /hf_abc|pa55|t0ken|g1/)
  assert.match(told ?? '', /are no tokens/)
})
