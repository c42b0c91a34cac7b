// A program may do with its signals what it likes: a wait ends in time all the same.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LockFolder } from '../support/lock-folder.ts'

const name = 'Global\\signals'

/** What the party does with SIGURG: the signal that libraries take for themselves (Go), and that macOS's waits used to be ended by. */
type Change = 'nothing' | 'listen' | 'let go' | 'listen once more'

const onPosix = process.platform === 'win32' ? { skip: 'Windows has no signals' } : {}

test('a timeout, an abort and a close end their waits, whoever takes SIGURG or lets it go', onPosix, async () => {
  await using folder = new LockFolder()
  const [owner, party] = await Promise.all([folder.process(), folder.process()])
  await owner.acquire(name).lock
  for (const change of ['nothing', 'listen', 'let go', 'listen once more'] satisfies Change[]) {
    const ended = party.run(
      async ({ NamedMutex, directory, kept }, name, change: string) => {
        const urgent = kept as (() => void)[]
        if (change.startsWith('listen')) {
          urgent.push(() => kept.push('a signal came'))
          process.on('SIGURG', urgent.at(-1) as () => void)
        }
        if (change === 'let go') process.off('SIGURG', urgent[0] as () => void)
        const codes: unknown[] = []
        const instance = () => new NamedMutex(name, { directory })
        const codeOf = (acquire: Promise<unknown>) =>
          acquire.then(
            () => 'acquired',
            (error: { code?: string; name: string }) => error.code ?? error.name,
          )
        codes.push(await codeOf(instance().acquire({ timeoutMs: 30 })))
        const aborted = instance().acquire({ signal: AbortSignal.timeout(30) })
        codes.push(await codeOf(aborted))
        const closed = instance()
        const acquire = codeOf(closed.acquire())
        await new Promise((resolve) => setTimeout(resolve, 30))
        closed.close()
        codes.push(await acquire)
        return [...codes, ...kept.filter((each) => typeof each === 'string')]
      },
      name,
      change,
    )
    const codes = await inTime(ended, `SIGURG, ${change}: the event loop of the waiting process hangs`)
    assert.deepEqual(codes.slice(0, 2), ['ERR_MUTEX_TIMEOUT', 23], change)
    assert.equal(codes.length, 3, `${change}: ${codes}`)
  }
})

/** Rejects after 10 s. */
function inTime<T>(promise: Promise<T>, otherwise: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(otherwise)), 10_000)
    promise.then(resolve, reject).finally(() => clearTimeout(timer))
  })
}
