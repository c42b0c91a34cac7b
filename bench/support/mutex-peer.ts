// One process of the hand-off measurements: the same lines in and out as `wait` and `hold` of the peers in bench/peer. `wait-sync`
// blocks its thread.
import { createInterface } from 'node:readline'
import { NamedMutex } from 'os-mutex'

const [mode, name, directory] = process.argv.slice(2)
if (mode === undefined || name === undefined || directory === undefined)
  throw new Error('usage: mutex-peer MODE NAME DIRECTORY')
const mutex = new NamedMutex(name, { directory })
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

while (!(await lines.next()).done) {
  const lock = mode === 'wait-sync' ? mutex.acquireSync() : await mutex.acquire()
  const locked = process.hrtime.bigint()
  process.stdout.write(`${locked}\n`)
  if ((await lines.next()).done) break
  const released = process.hrtime.bigint()
  lock.release()
  if (mode === 'hold') process.stdout.write(`${released}\n`)
}
