// Each process of a storm imports this before its own code (`--import`). It makes the storm go wrong in the way that an
// environment variable names. In the conductor it waits until the test says so.
import { basename, join } from 'node:path'
import { isMainThread } from 'node:worker_threads'

/** The name of the variable that names one. */
export const sabotageVariable = 'OS_MUTEX_STORM_SABOTAGE'

const whenTold = (act: () => void) => () => void process.once('message', act)

const inConductor: Readonly<Record<string, () => void>> = {
  rejection: whenTold(() => void Promise.reject(new Error('rejected by the saboteur'))),
  exception: whenTold(() => {
    throw new Error('thrown by the saboteur')
  }),
  exit: whenTold(() => process.exit(0)),
  'no start': () => {
    // What child_process.fork starts.
    process.execPath = join(import.meta.dirname, 'no-such-program')
  },
}

const inParticipant: Readonly<Record<string, () => void>> = {
  'exit at once': () => process.exit(3),
  'exit later': () => void setTimeout(() => process.exit(3), 1_500),
  hang: () => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  },
}

if (isMainThread) {
  const isConductor = basename(process.argv[1] ?? '') === 'main.js'
  const sabotage = process.env[sabotageVariable] ?? ''
  ;(isConductor ? inConductor : inParticipant)[sabotage]?.()
}
