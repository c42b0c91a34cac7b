// The wait for a flock that another thread can end, without JavaScript around it: Linux's, and macOS's by its real kqueue or, on Linux,
// by a stand-in.
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import {
  compileMuslEnds,
  compileWaits,
  ifCompilable,
  isGlibc,
  kinds,
  runScenario,
  type Wait,
} from '../support/endable-flock/compile.ts'

const promises = {
  'release-by-call': 'a wait gets the lock when its owner unlocks, on whichever thread',
  'release-by-close': "a wait gets the lock with the owner's last descriptor, and not before",
  'release-by-death': 'a wait gets the lock when the process of its owner is killed',
  'release-unseen': 'a wait gets the lock some seconds after an unlock that the kernel does not report',
  'end-before': 'a wait that is ended before it begins leaves no thread and no lock',
  'end-inside': 'a wait that is ended while it is blocked leaves no thread and no lock',
  'end-after': 'a wait that is ended after it got the lock leaves the lock to who ended it, and no thread',
  storm: 'of a thousand grants that race with the end of the wait none is lost, and none comes late',
  'hand-over': 'of 20,000 unlocks among four waiters none is missed',
  leftovers: 'waits leave no descriptor, hand none on to other programs, and change the action of no signal',
}

if (ifCompilable.skip !== undefined) test('waits by the sources of the addon', ifCompilable)

let folder = ''
let programs: Readonly<Record<Wait, string>>
before(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-test-')))
  if (ifCompilable.skip === undefined) programs = compileWaits(folder)
})
after(() => rmSync(folder, { recursive: true, force: true }))

for (const kind of ifCompilable.skip === undefined ? kinds : []) {
  const standsIn = kind === process.platform ? '' : ', with a stand-in for its kernel'
  suite(`the wait of ${kind}${standsIn}`, () => {
    for (const [scenario, promise] of Object.entries(promises)) {
      test(promise, async () => {
        await runScenario(programs[kind], scenario, join(folder, scenario))
      })
    }

    test('without a descriptor left a wait does not begin, says which call failed, and begins when there is one', async () => {
      const missing = {
        linux: isGlibc() ? 'dlopen("libgcc_s.so.1"): EMFILE' : ': Success',
        darwin: 'kqueue: EMFILE',
      }
      const said = await runScenario(programs[kind], 'no-descriptors', join(folder, 'no-descriptors'))
      assert.ok(said.endsWith(missing[kind]), said)
    })

    test('no signal ends a wait: no call that sends one is in the program', () => {
      const undefinedSymbols = execFileSync('nm', ['-u', programs[kind]], { encoding: 'utf8' })
      const calls = undefinedSymbols.match(/\b_?(pthread_kill|tgkill|signal|sigqueue|pthread_sigqueue)\b/g)
      assert.equal(calls, null)
    })
  })
}

const ifX64Linux =
  process.platform === 'linux' && process.arch === 'x64' ? ifCompilable : { skip: 'Linux on x86-64 only' }

test('on musl a wait that is ended at any moment leaves on an aligned stack', ifX64Linux, async () => {
  const program = compileMuslEnds(folder)
  const said = await promisify(execFile)(program, [join(folder, 'musl-ends-file'), '1000'], { timeout: 150_000 })
  assert.equal(said.stdout.trim(), '1000 threads, 0 ended on a misaligned stack')
})
