// How many lanes a download has, on lines of all kinds: the policy alone, by a clock of its own.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LaneCount } from '#download/lane-count'

interface Line {
  /** Bytes a millisecond, of all connections together and of each. */
  readonly capacity?: (now: number) => number
  readonly each: (now: number) => number
  /** From the request to the first byte. */
  readonly startMs?: number
  /** From the first byte to full speed. */
  readonly rampMs?: number
  /** More connections than these are refused. */
  readonly refusedAbove?: number
}

interface SimulatedLane {
  received: number
  readonly at: number
}

/** Goes on for so long. Returns how many lanes there were at each tick. */
function simulate(line: Line, forMs: number, count = new LaneCount(8, false)): number[] {
  const { capacity = () => Number.POSITIVE_INFINITY, each, startMs = 1, rampMs = 0 } = line
  const tickMs = 50
  // The first one's answer is there.
  const lanes: SimulatedLane[] = [{ received: 0, at: -startMs }]
  const counts: number[] = []
  let received = 0
  const left = 1e12
  for (let now = tickMs; now <= forMs; now += tickMs) {
    const speed = ({ at }: SimulatedLane) =>
      now - at < startMs ? 0 : each(now) * Math.min(1, rampMs === 0 ? 1 : 0.05 + (now - at - startMs) / rampMs)
    const wanted = lanes.map(speed)
    const share = Math.min(1, capacity(now) / wanted.reduce((sum, rate) => sum + rate, 0))
    for (const [index, lane] of lanes.entries()) {
      const bytes = (wanted[index] ?? 0) * share * tickMs
      lane.received += bytes
      received += bytes
    }
    for (let more = count.more({ now, received, left, running: lanes }); more > 0; more--) {
      if (lanes.length < (line.refusedAbove ?? 8)) lanes.push({ received: 0, at: now })
      else count.fail(now, {})
    }
    // Each has done with its stretch.
    while (count.isTooMany(lanes.length)) lanes.pop()
    counts.push(lanes.length)
  }
  return counts
}

const most = (counts: readonly number[]) => Math.max(...counts)
const KiB = 1024

test('a server that limits each connection is asked by as many as there may be', () => {
  assert.equal(simulate({ each: () => 20 * KiB }, 2_000).at(-1), 8)
})

test('so it is when an answer takes long, and a connection takes long to come up to its speed', () => {
  for (const startMs of [100, 400, 1_000])
    for (const rampMs of [0, startMs, 4 * startMs]) {
      const counts = simulate({ each: () => 2 * KiB, startMs, rampMs }, 40 * startMs + 5_000)
      assert.equal(counts.at(-1), 8, `answer after ${startMs} ms, full speed ${rampMs} ms later`)
    }
})

test('a line that one connection fills is left to one', () => {
  const counts = simulate({ each: () => 100 * KiB, capacity: () => 100 * KiB }, 9_000)
  assert.equal(counts.at(-1), 1)
  assert.ok(counts.filter((count) => count > 1).length < 10)
})

test('a line that four fill is left to four', () => {
  assert.equal(simulate({ each: () => 25 * KiB, capacity: () => 100 * KiB }, 5_000).at(-1), 4)
})

test('a connection that is fast enough is not tried to be helped', () => {
  assert.equal(most(simulate({ each: () => 200 * KiB }, 20_000)), 1)
})

test('a line that becomes wider is tried again', () => {
  const capacity = (now: number) => (now < 5_000 ? 10 : 80) * KiB
  assert.equal(simulate({ each: () => 10 * KiB, capacity }, 5_000).at(-1), 1)
  assert.equal(simulate({ each: () => 10 * KiB, capacity }, 15_000).at(-1), 8)
})

test('a connection that all but stops is helped at once, though a trial was in vain', () => {
  const line = { each: (now: number) => (now < 4_000 ? 100 : 1) * KiB, capacity: () => 100 * KiB }
  assert.ok((simulate(line, 5_500).at(-1) ?? 0) > 1)
})

test('a server that refuses the fifth connection is asked by four, and seldom for more', () => {
  const counts = simulate({ each: () => 10 * KiB, refusedAbove: 4 }, 60_000)
  assert.equal(counts.at(-1), 4)
})

test('all at once, where the caller has said how many', () => {
  const count = new LaneCount(5, true)
  assert.equal(count.isTooMany(5), false)
  assert.equal(count.isTooMany(6), true)
})
