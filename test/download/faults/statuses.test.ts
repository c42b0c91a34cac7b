// Rows of the table of faults: statuses, and how long Retry-After makes a download wait. See support/faults.ts.
import assert from 'node:assert/strict'
import { status, thenRest } from '../../support/fault-parts.ts'
import { type FaultScene, fault, path } from '../../support/faults.ts'
import { busy, rateLimited } from '../../support/model-server/usual-faults.ts'

// Statuses

for (const code of [204, 304, 400, 401, 403, 404, 410, 416, 451]) {
  fault(`status ${code}`, { ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 }, status(code))
}
for (const code of [408, 429, 500, 502, 503, 504]) {
  fault(`status ${code}, each time`, { ends: 'ERR_MODEL_HTTP_STATUS', requests: 4 }, status(code))
}
fault('status 503, three times', { guards: 'A3', ends: 'right file', requests: 4 }, status(503, {}, 3))
fault(
  'status 206 that nobody asked for',
  { ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 },
  {
    kind: 'headers',
    status: 206,
    headers: ({ size }) => ({ 'content-range': `bytes 0-${size - 1}/${size}` }),
  },
)
fault(
  'status 503 now and then, and the rest is well',
  { guards: 'A3', ends: 'right file', only: 'segmented' },
  busy([2, 4, 6]),
)
fault('status 401 for the rest', { guards: 'D12', ends: 'ERR_MODEL_HTTP_STATUS', requests: 2 }, thenRest(status(401)))
fault('status 404 for the rest', { guards: 'D12', ends: 'ERR_MODEL_HTTP_STATUS', requests: 2 }, thenRest(status(404)))
fault('status 416 for the rest, once', { ends: 'right file', requests: 3 }, thenRest(status(416, {}, 1)))
fault('status 416 for the rest, and for all', { ends: 'ERR_MODEL_HTTP_STATUS', requests: 3 }, thenRest(status(416)))

// Retry-After: kept to when it is short, and never 1000 times as long

const waits = (atLeastMs: number, atMostMs: number, retryAfter: () => string) => async (scene: FaultScene) => {
  scene.server.fault(path, status(503, { 'retry-after': retryAfter() }, 1))
  const begun = performance.now()
  const ending = await scene.get()
  const tookMs = performance.now() - begun
  assert.ok(tookMs >= atLeastMs && tookMs < atMostMs, `waited ${tookMs} ms`)
  return ending
}
const date = (inMs: number) => new Date(Date.now() + inMs).toUTCString()
const twice = { guards: 'D12', ends: 'right file', requests: 2, only: 'one piece' } as const
fault(
  'Retry-After: 1',
  twice,
  waits(990, 4_000, () => '1'),
)
// A date has whole seconds only.
fault(
  'Retry-After: a date in 1.5 s',
  twice,
  waits(490, 5_000, () => date(1_500)),
)
fault(
  'Retry-After: a date that is over',
  twice,
  waits(0, 3_000, () => date(-3_600_000)),
)
fault(
  'Retry-After: garbage',
  twice,
  waits(0, 3_000, () => 'soon, or so'),
)
fault(
  'Retry-After: -5',
  twice,
  waits(0, 3_000, () => '-5'),
)
fault('Retry-After: a date, beside a Date that is none', twice, async (scene) => {
  scene.server.fault(path, status(503, { 'retry-after': date(1_500), date: 'today' }, 1))
  return scene.get()
})
const atOnce = { guards: 'D12', ends: 'ERR_MODEL_HTTP_STATUS', requests: 1 } as const
fault('Retry-After: an hour', atOnce, () => status(503, { 'retry-after': '3600' }))
fault('Retry-After: a date in an hour', atOnce, () => status(429, { 'retry-after': date(3_600_000) }))
fault('Retry-After: 10^30', atOnce, () => status(503, { 'retry-after': `1${'0'.repeat(30)}` }))
fault('Retry-After: a date in the year 9999', atOnce, () =>
  status(503, { 'retry-after': 'Fri, 31 Dec 9999 23:59:59 GMT' }),
)

fault(
  "the hub's rate limit, which is over in a second: RateLimit",
  { guards: 'D12', ends: 'right file', requests: 2, only: 'one piece' },
  () => rateLimited(800),
)
