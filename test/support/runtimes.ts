// What other runtimes than Node do otherwise, each seen in a small program without this package. Options of tests that need it.
const isDeno = 'Deno' in globalThis
const isBun = process.versions.bun !== undefined
/** node-llama-cpp: `llama.dispose()` does not return there after loads that have failed. */
export const canDisposeLlama = !isDeno && !isBun

function unlessDeno(reason: string): { skip?: string } {
  return isDeno ? { skip: `Deno: ${reason}` } : {}
}

export const withTerminate = unlessDeno(
  'worker.terminate() resolves before the worker has ended, and never ends one that is busy',
)
export const withPortClose = unlessDeno('a worker has no parentPort.close()')
export const withSignals = unlessDeno('child.kill(), whatever the signal, closes the IPC channel')
export const withPromptSend = unlessDeno('process.send() is not heard of a child that is busy until it exits')

export const withStarters = unlessDeno('fork() starts no program but Deno, and none that starts it in another place')
export const withUncachedUser = unlessDeno('a user without a home has no place for the cache that Deno needs')
export const withCopiesInSteps = unlessDeno('its copyFile() knows no COPYFILE_FICLONE_FORCE, and copies at once')

export const withTimersTold =
  isDeno || isBun ? { skip: 'Deno and Bun: process.getActiveResourcesInfo() does not tell of each timer' } : {}
export const withUndiciInside = isDeno || isBun ? { skip: 'Deno and Bun have no undici inside' } : {}
export const withReplacedBuiltins =
  isDeno || isBun ? { skip: 'Deno and Bun: syncBuiltinESMExports() changes no import of a built-in module' } : {}
export const withHomeOfNow = isBun ? { skip: 'Bun reads HOME once, when it starts' } : {}
export const withScriptsAsPrograms =
  isDeno || isBun ? { skip: 'the stand-in for npm is a script that only Node runs as a program' } : {}
/**
 * Deno's HTTPS server leaves each third request of a connection without an answer. Its clients read on in a pause, and
 * are often not told of the end of a body that ends with its connection.
 */
export const hasWholeTls = !isDeno

/**
 * The machine's monotonic clock, in milliseconds, for the times of several processes. In Bun and Deno `process.hrtime`
 * counts from the start of each process.
 */
export function machineMs(): number {
  if (isDeno || isBun) return performance.timeOrigin + performance.now()
  return Number(process.hrtime.bigint()) / 1e6
}
