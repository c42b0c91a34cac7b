// What has to be done from time to time for as long as this thread uses mutexes. No timer here keeps the process alive.
import { clearInterval, setInterval } from 'node:timers'
import { addon } from './addon.ts'
import { tenures } from './tenure.ts'

/** Unused mutexes close their descriptors after one to two of these. Within one, a held lock gets its first care. */
const REST_INTERVAL_MS = 2_000
/** The shortest age at which a system's own cleaner removes files in `/tmp` is three days (macOS). */
const CARE_INTERVAL_MS = 600_000

let resting: NodeJS.Timeout | undefined
let caring: NodeJS.Timeout | undefined

/** Called at each acquire. */
export function startUpkeep(): void {
  if (resting !== undefined) return
  resting = setInterval(rest, REST_INTERVAL_MS).unref()
  caring ??= setInterval(careForAll, CARE_INTERVAL_MS).unref()
}

function rest(): void {
  const isAnyHeld = careForAll()
  if (addon.restIdle() > 0) return
  clearInterval(resting)
  resting = undefined
  if (isAnyHeld) return
  clearInterval(caring)
  caring = undefined
}

/** Looks after every lock that this thread holds: is it still there, and young enough for the system's cleaners? */
export function careForAll(): boolean {
  let isAnyHeld = false
  for (const tenure of tenures) {
    if (tenure.hold === 0) continue
    isAnyHeld = true
    tenure.look()
    tenure.native.keepYoung(tenure.hold)
  }
  return isAnyHeld
}
