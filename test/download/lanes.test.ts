// Lanes alone, with answers that come when the test says so: orders that no server brings about at will.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Lanes } from '#download/lanes'

type LanesOptions = ConstructorParameters<typeof Lanes>[0]
type RemoteFile = Parameters<Lanes['run']>[0]
type Extent = LanesOptions['missing'][number]

const MiB = 1024 * 1024

/** A promise, and what resolves it. */
function gate(): { readonly opened: Promise<void>; readonly open: () => void } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open }
}

/** An answer with these bytes; `discard` ends it with an error, as a connection that is cut off. */
function answer({ start, end }: Extent, chunks: (discarded: Promise<void>) => AsyncIterable<readonly Buffer[]>) {
  const { opened: discarded, open: discard } = gate()
  const file: RemoteFile = {
    identity: {},
    offset: start,
    end,
    hasFraming: true,
    hasRanges: true,
    contentType: undefined,
    body: chunks(discarded),
    giveBack: () => {},
    discard,
  }
  return file
}

// 1  X has asked for the first half and has got nothing: its rate is 0. B brings its own.
// 2  X gets its first bytes, and is held up by the disk.
// 3  B is done, and takes all that X has left, because X is so slow. X is ended.
// 4  X's write is done. It must not go on with what B has not come to yet: all that it asks for is called off.
test('a lane that is ended while the disk holds it up takes nothing more with it', async () => {
  const total = 40 * MiB
  const written: Extent[] = []
  const [taken, first, xHasCome, xIsWritten, bMayEnd] = [gate(), gate(), gate(), gate(), gate()]
  const x = answer({ start: 0, end: total }, async function* (discarded) {
    await first.opened
    yield [Buffer.alloc(MiB)]
    await discarded
    throw new Error('cut off')
  })
  let asked = 0
  const lanes = new Lanes({
    total,
    missing: [{ start: 0, end: total }],
    connections: 2,
    all: true,
    signal: undefined,
    open: async ({ start, end }, signal) => {
      const isFirst = asked++ === 0
      const isTaken = start < total / 2
      if (isTaken) taken.open()
      await Promise.resolve()
      signal.throwIfAborted()
      return answer({ start, end }, async function* () {
        if (isFirst) {
          yield [Buffer.alloc(MiB)]
          // Until the lanes' rates have been measured.
          await delay(500)
          first.open()
          await xHasCome.opened
        }
        yield [Buffer.alloc(end - start - (isFirst ? MiB : 0))]
        if (isTaken) await bMayEnd.opened
      })
    },
    write: async (position, chunks) => {
      const bytes = chunks.reduce((sum, { length }) => sum + length, 0)
      written.push({ start: position, end: position + bytes })
      if (position !== 0) return
      xHasCome.open()
      await xIsWritten.opened
    },
    writesAtOnce: 1,
    onReceived: () => {},
    speedLimit: { bytesPerSecond: 0, timeMs: 0 },
    empty: () => new Error('empty'),
    tooLong: () => new Error('too long'),
  })
  const run = lanes.run(x)
  await taken.opened
  xIsWritten.open()
  // X has had every chance.
  await delay(50)
  bMayEnd.open()
  await run
  const inOrder = written.filter(({ start, end }) => end > start).sort((a, b) => a.start - b.start)
  assert.equal(inOrder[0]?.start, 0)
  assert.equal(inOrder.at(-1)?.end, total)
  for (const [index, { start }] of inOrder.slice(1).entries()) assert.equal(start, inOrder[index]?.end)
})
