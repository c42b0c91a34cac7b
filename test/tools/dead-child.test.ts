// Messages to children that have just ended, and children that could not be started. Node emits 'error' on such a child,
// and an 'error' without a listener ends the harness. The gate storm died so: it aborted a call of a child that another
// place had killed.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { type Participant, startProcess } from '../../examples/demo/cast.ts'
import { startDownload } from '../support/download-process.ts'
import { FaultProcess } from '../support/fault-process.ts'
import { GateFolder } from '../support/gate-folder.ts'
import { GateProcess } from '../support/gate-process.ts'
import { LockFolder } from '../support/lock-folder.ts'

const ifForked = 'Deno' in globalThis ? { skip: 'it looks at what Node does with a closed channel' } : {}
const limit = { ...ifForked, timeout: 60_000 }

/** Lets the kernel end a killed child while this process does not hear of it: its channel still looks open. */
function deafly(kill: () => void): void {
  kill()
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300)
}

/** Runs `start` while no process can be started. */
function unstartable<T>(start: () => T): T {
  const { execPath } = process
  process.execPath = join(import.meta.dirname, 'no-such-program')
  try {
    return start()
  } finally {
    process.execPath = execPath
  }
}

/** Errors of a channel are emitted a turn or two later. `endingOf` prints those that nobody else has listened to. */
function noErrorsAstray(t: TestContext): () => Promise<void> {
  const { mock } = t.mock.method(console, 'error')
  return async () => {
    for (let turns = 0; turns < 5; turns++) await turn()
    assert.deepEqual(
      mock.calls.flatMap((call) => call.arguments),
      [],
    )
  }
}

test('a call of a gate process that is gone can be aborted, and another one fails', limit, async (t) => {
  const afterTheTurns = noErrorsAstray(t)
  await using folder = await GateFolder.create()
  await using child = await GateProcess.start(folder.options)
  const call = child.ensureModel('http://127.0.0.1:9/model.gguf')
  await child.kill()
  call.abort()
  await assert.rejects(call.result, /The child ended \(SIGKILL\)/)
  await assert.rejects(child.ensureModel('http://127.0.0.1:9/model.gguf').result, /The child ended \(SIGKILL\)/)
  await afterTheTurns()
})

test('a call of a gate process that is just dying can be aborted', limit, async (t) => {
  const afterTheTurns = noErrorsAstray(t)
  await using folder = await GateFolder.create()
  await using child = await GateProcess.start(folder.options)
  const call = child.ensureModel('http://127.0.0.1:9/model.gguf')
  deafly(() => void child.kill())
  for (let times = 0; times < 10; times++) call.abort()
  await assert.rejects(call.result, /The child ended \(SIGKILL\)/)
  await afterTheTurns()
})

test('a fault process that dies has an end, and not an error of its channel', limit, async (t) => {
  const afterTheTurns = noErrorsAstray(t)
  const dying = await FaultProcess.start()
  const job = { source: 'http://127.0.0.1:9/model.gguf', destination: join(import.meta.dirname, 'never') }
  deafly(() => void dying.kill())
  assert.equal(await dying.run(job), undefined)
  assert.equal(await dying.run(job), undefined)
  await assert.rejects(dying.moveClock(1), /ended before its clock was moved \(SIGKILL\)/)
  await afterTheTurns()
})

test('a party that dies rejects what it is asked, and does not end its test', limit, async (t) => {
  const afterTheTurns = noErrorsAstray(t)
  await using folder = new LockFolder()
  const party = await folder.process()
  deafly(() => void party.kill())
  await assert.rejects(party.query('a mutex'))
  await party.ended
  await assert.rejects(party.query('a mutex'), /The party has ended/)
  await afterTheTurns()
})

test(
  "the demo can give an order to a participant that is just dying, and hears of the participant's end",
  limit,
  async (t) => {
    const afterTheTurns = noErrorsAstray(t)
    const briefing = {
      gate: { modelsDirectory: import.meta.dirname },
      source: 'http://127.0.0.1:9/m.gguf',
      useMmap: false,
    }
    const participant: Participant = startProcess('P', briefing, () => {})
    deafly(() => void participant.kill(0))
    for (let times = 0; times < 10; times++) participant.tell('begin')
    assert.equal(await participant.ended(), 'SIGKILL')
    participant.tell('begin')
    await afterTheTurns()
  },
)

test('a child that cannot be started has ended, with its reason', limit, async () => {
  await using gateFolder = await GateFolder.create()
  await using lockFolder = new LockFolder()
  const reason = /could not be started: .*ENOENT/
  await assert.rejects(
    unstartable(() => GateProcess.start(gateFolder.options)),
    reason,
  )
  await assert.rejects(
    unstartable(() => FaultProcess.start()),
    reason,
  )
  await assert.rejects(
    unstartable(() => lockFolder.process()),
    reason,
  )
  const { outcome } = unstartable(() => startDownload('http://127.0.0.1:9/model.gguf', 'never'))
  await assert.rejects(outcome, reason)
  const briefing = {
    gate: { modelsDirectory: import.meta.dirname },
    source: 'http://127.0.0.1:9/m.gguf',
    useMmap: false,
  }
  const participant = unstartable(() => startProcess('P', briefing, () => {}))
  await participant.until(({ isOver }) => isOver)
  assert.match(JSON.stringify(participant.record.activity), /could not be started/)
})
