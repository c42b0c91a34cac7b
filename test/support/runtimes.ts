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
export const withSecondEvaluation =
  process.versions.bun === undefined ? {} : { skip: 'Bun evaluates no module a second time' }
