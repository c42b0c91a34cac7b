// Rows of the table of faults: answers to a request for a range. See support/faults.ts.
import { thenRest, toldOfRange } from '../../support/fault-parts.ts'
import { fault } from '../../support/faults.ts'

// Ranges. Whoever does not continue just this file is asked for the whole of it.

const whole = { guards: 'A2', ends: 'right file', requests: 3 } as const
fault(
  'a rest that is the whole file: Range is ignored',
  // By If-Range, by If-Match.
  { ends: 'right file', requests: 3 },
  thenRest({ kind: 'ignore-range' }),
)
fault('206 with another range', whole, thenRest({ kind: 'wrong-range' }))
fault('206 without Content-Range', whole, thenRest({ kind: 'untold-range' }))
fault('206 with a shorter range', { ends: 'right file' }, thenRest({ kind: 'short-range', bytes: 60_000 }))
fault(
  '206 with a range that goes on to the end',
  { guards: 'A2', ends: 'right file' },
  thenRest({ kind: 'other-range', of: ({ start, size }) => ({ start, end: size }) }),
)
fault(
  '206 with a range that begins earlier',
  whole,
  thenRest({ kind: 'other-range', of: ({ start, end }) => ({ start: start - 100, end }) }),
)
fault(
  '206 of another total',
  whole,
  thenRest(toldOfRange(({ start, end, size }) => ({ 'content-range': `bytes ${start}-${end - 1}/${size + 1}` }))),
)
fault(
  '206 of an unknown total',
  whole,
  thenRest(toldOfRange(({ start, end }) => ({ 'content-range': `bytes ${start}-${end - 1}/*` }))),
)
fault(
  '206 in another unit',
  whole,
  thenRest(toldOfRange(({ start, end, size }) => ({ 'content-range': `items ${start}-${end - 1}/${size}` }))),
)
fault(
  '206 whose Content-Range is garbage',
  whole,
  thenRest(toldOfRange(() => ({ 'content-range': 'bytes NaN-1e9/∞'.replace('∞', '?') }))),
)
fault('206 as multipart/byteranges', whole, thenRest({ kind: 'multipart' }))
fault(
  '206 whose body is shorter than it says',
  { ends: 'right file' },
  thenRest(toldOfRange(({ start, end }) => ({ 'content-length': String(Math.ceil((end - start) / 2)) }))),
)
fault('206 without a body', { ends: 'ERR_MODEL_NETWORK' }, thenRest(toldOfRange(() => ({ 'content-length': '0' }))))
fault(
  '206 whose body is longer than the range that it tells',
  { ends: 'right file' },
  thenRest(toldOfRange(({ start, size }) => ({ 'content-range': `bytes ${start}-${start + 9_999}/${size}` }))),
)
fault('206 with bytes of another file, and the hub knows the hash', { ends: 'right file' }, (scene) => {
  const other = scene.payload()
  scene.serve(scene.file, { headers: { 'x-linked-etag': `"${scene.file.sha256}"` } })
  return thenRest({ kind: 'other-bytes', file: other.path })(scene)
})
