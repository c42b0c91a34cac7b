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
export const withUndiciInside = isDeno || isBun ? { skip: 'Deno and Bun have no undici inside' } : {}
export const withReplacedBuiltins =
  isDeno || isBun ? { skip: 'Deno and Bun: syncBuiltinESMExports() changes no import of a built-in module' } : {}
export const withHomeOfNow = isBun ? { skip: 'Bun reads HOME once, when it starts' } : {}
export const withScriptsAsPrograms =
  isDeno || isBun ? { skip: 'the stand-in for npm is a script that only Node runs as a program' } : {}
/** Deno over TLS: a body without a length, whose end is that of the connection, is often not told to have ended. */
export const tellsEndOfTls = !isDeno

/**
 * The machine's monotonic clock, in milliseconds, for the times of several processes. In Bun and Deno `process.hrtime`
 * counts from the start of each process.
 */
export function machineMs(): number {
  if (isDeno || isBun) return performance.timeOrigin + performance.now()
  return Number(process.hrtime.bigint()) / 1e6
}
