// Preloaded by a process that is to die right before one of its steps: the calls that give or take names of files.
// `OS_MUTEX_TEST_KILL_AT`: which one, counted from 1. Whatever it has written before is there.
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'

let left = Number(process.env.OS_MUTEX_TEST_KILL_AT)

for (const name of ['rename', 'link', 'mkdir', 'rm', 'unlink'] as const) {
  const call = promises[name] as (...args: unknown[]) => Promise<unknown>
  Object.assign(promises, {
    [name]: (...args: unknown[]) => {
      // Folders that are there already are no step.
      const isStep = name !== 'mkdir' || (args[1] as { recursive?: boolean } | undefined)?.recursive !== true
      if (isStep && --left === 0) process.kill(process.pid, 'SIGKILL')
      return call(...args)
    },
  })
}
syncBuiltinESMExports()
