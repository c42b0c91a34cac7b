// What other runtimes than Node do otherwise, each seen in a small program without this package. Options of tests that need it.
const isDeno = 'Deno' in globalThis

function unlessDeno(reason: string): { skip?: string } {
  return isDeno ? { skip: `Deno: ${reason}` } : {}
}

export const withTerminate = unlessDeno(
  'worker.terminate() resolves before the worker has ended, and never ends one that is busy',
)
export const withPortClose = unlessDeno('a worker has no parentPort.close()')
export const withSignals = unlessDeno('child.kill(), whatever the signal, closes the IPC channel')
export const withPromptSend = unlessDeno('process.send() is not heard of a child that is busy until it exits')

const isBun = process.versions.bun !== undefined
export const withSecondEvaluation = isBun ? { skip: 'Bun evaluates no module a second time' } : {}
export const withTimersTold =
  isDeno || isBun ? { skip: 'Deno and Bun: process.getActiveResourcesInfo() does not tell of each timer' } : {}
export const withUndici = isBun
  ? { skip: 'Bun puts an undici of its own in its place, which downloads cannot use' }
  : {}
export const withUndiciInside = isDeno || isBun ? { skip: 'Deno and Bun have no undici inside' } : {}
