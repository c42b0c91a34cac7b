// How the property tests are run. A failure prints its seed and the shrunk counterexample.
import fc from 'fast-check'

const asked = Number(process.env.OS_MUTEX_PROPERTY_RUNS ?? 0)
const seed = process.env.OS_MUTEX_PROPERTY_SEED
// Starting and asking programs takes ten times as long under Wine.
const share = process.platform === 'win32' ? 0.2 : 1

/** `usual`: how many runs `npm test` makes. OS_MUTEX_PROPERTY_RUNS asks for another number, OS_MUTEX_PROPERTY_SEED for the same ones again. */
export function runs(usual: number): { numRuns: number; seed?: number } {
  const numRuns = asked > 0 ? asked : Math.ceil(usual * share)
  return seed === undefined ? { numRuns } : { numRuns, seed: Number(seed) }
}

/** Bytes of any length up to `maxLength`; short ones more often. */
export function bytesUpTo(maxLength: number): fc.Arbitrary<Buffer> {
  const size = { maxLength, size: 'max' as const }
  return fc.oneof(fc.uint8Array({ maxLength: 64 }), fc.uint8Array(size)).map((bytes) => Buffer.from(bytes))
}

/** A change of some bytes, of whatever length they turn out to have: `from` and `to` are parts of it. */
export interface Damage {
  readonly kind: 'flip' | 'put' | 'cut' | 'drop' | 'double'
  readonly from: number
  readonly to: number
  /** What is put over the bytes in this place. */
  readonly lie: Uint8Array
}

/** More often near the beginning, where the lengths and counts are. */
const part = fc
  .tuple(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), fc.constantFrom(1, 3))
  .map(([value, power]) => value ** power)

export function damages(lie: fc.Arbitrary<Uint8Array>, maxLength = 4): fc.Arbitrary<Damage[]> {
  const kind = fc.constantFrom<Damage['kind'][]>('flip', 'put', 'cut', 'drop', 'double')
  return fc.array(fc.record({ kind, from: part, to: part, lie }), { maxLength })
}

export function damaged(original: Buffer, all: readonly Damage[]): Buffer {
  return all.reduce(applied, Buffer.from(original))
}

function applied(bytes: Buffer, { kind, from, to, lie }: Damage): Buffer {
  const at = Math.floor(from * bytes.length)
  const end = at + Math.floor(to * (bytes.length - at))
  const before = bytes.subarray(0, at)
  switch (kind) {
    case 'flip':
      return Buffer.concat([
        before,
        bytes.subarray(at, at + 1).map((byte) => byte ^ (1 << (8 * to))),
        bytes.subarray(at + 1),
      ])
    case 'put':
      return Buffer.concat([before, lie, bytes.subarray(at + lie.length)])
    case 'cut':
      return before
    case 'drop':
      return Buffer.concat([before, bytes.subarray(end)])
    case 'double':
      return Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)])
  }
}
