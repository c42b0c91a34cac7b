// Mutexes come and go, granted and given up, and nothing of them stays. Run by scripts/sanitize.mjs under LeakSanitizer, which finds
// what nobody points to any more; what is still pointed to, and grows, shows here.
import assert from 'node:assert/strict'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { NamedMutex } from 'os-mutex'
import { LockFolder } from '../support/lock-folder.ts'
import { resources } from '../support/resources.ts'
import { until } from '../support/until.ts'

const cycles = 100_000
/** A sanitizer's own records grow. */
const memoryIsJudged = process.argv[2] !== 'any-memory'
setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** One mutex by two objects: one owns it, the other waits in the kernel and is called off. Both are closed. */
async function cycle(directory: string, name: string): Promise<void> {
  const [mutex, rival] = [new NamedMutex(name, { directory }), new NamedMutex(name, { directory })]
  const lock = await mutex.acquire()
  const abort = new AbortController()
  const wait = rival.acquire({ signal: abort.signal, detectDeadlock: false })
  abort.abort()
  await assert.rejects(wait, { name: 'AbortError' })
  lock.release()
  mutex.close()
  rival.close()
}

/** Native memory: V8 sizes its heap as it sees fit. */
async function measure() {
  await until('no thread of ours is left', () => resources().threads === 0)
  // Native objects go with a turn of the event loop after their JavaScript has gone, and may have kept others.
  for (let turn = 0; turn < 5; turn++) {
    collectGarbage()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { rss, heapTotal } = process.memoryUsage()
  return { ...resources(), native: rss - heapTotal }
}

await using folder = new LockFolder()
const names = ['one', 'two', 'three'].map(() => folder.uniqueName())
const quarters = []
for (let done = 0; done < cycles; done++) {
  if (done % (cycles / 4) === 0) quarters.push(await measure())
  await cycle(folder.path, names[done % names.length] as string)
}
quarters.push(await measure())
console.log(
  quarters
    .map(
      ({ handles, threads, native }) =>
        `${handles} descriptors, ${threads} threads, ${(native / 2 ** 20).toFixed(1)} MiB`,
    )
    .join('; '),
)

const [, , middle, , end] = quarters
assert.ok(middle !== undefined && end !== undefined)
assert.equal(end.handles, middle.handles, 'descriptors')
assert.equal(end.threads, middle.threads, 'threads')
const growth = (end.native - middle.native) / middle.native
assert.ok(
  growth < 0.03 || !memoryIsJudged,
  `native memory has grown by ${(100 * growth).toFixed(1)} % in the second half`,
)
