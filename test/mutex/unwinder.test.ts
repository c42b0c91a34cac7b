// glibc ends a waiting thread by libgcc_s.so.1. Where that can't be loaded, a wait must not begin: its end would abort the process.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compileWithoutUnwinder, ifCompilable, isGlibc } from '../support/endable-flock/compile.ts'
import { canTake, LockFolder } from '../support/lock-folder.ts'

const name = 'Global\\unwinder'

const onGlibc = isGlibc() ? ifCompilable : { skip: 'only glibc needs libgcc_s.so.1' }

test(
  'without libgcc_s.so.1 an acquire that would wait fails, says so, and leaves nothing behind',
  onGlibc,
  async () => {
    await using folder = new LockFolder()
    const env = { ...process.env, LD_PRELOAD: compileWithoutUnwinder(folder.path) }
    const party = await folder.process({ env })
    const seen = await party.run(async ({ NamedMutex, directory, fs }, name) => {
      const [owner, waiter] = [new NamedMutex(name, { directory }), new NamedMutex(name, { directory })]
      const threads = () =>
        fs
          .readdirSync('/proc/self/task')
          .filter((id) => fs.readFileSync(`/proc/self/task/${id}/comm`, 'latin1').startsWith('os-mutex')).length
      const held = owner.tryAcquire()
      const failures = []
      for (let round = 0; round < 3; round++) {
        failures.push(
          await waiter.acquire({ timeoutMs: 5_000 }).then(
            () => ({ code: 'acquired', message: '' }),
            ({ code, message }: { code: string; message: string }) => ({ code, message }),
          ),
        )
      }
      const left = threads()
      held?.release()
      const free = waiter.tryAcquire()
      free?.release()
      return { failures, left, isFree: free !== null }
    }, name)
    assert.equal(seen.failures.length, 3)
    for (const { code, message } of seen.failures) {
      assert.equal(code, 'ERR_MUTEX_SYSTEM')
      assert.match(message, /dlopen\("libgcc_s\.so\.1"\).*failed with ENOTSUP.*libgcc/s)
    }
    assert.equal(seen.left, 0)
    assert.ok(seen.isFree)
    assert.ok(canTake(folder.mutex(name)))
  },
)
