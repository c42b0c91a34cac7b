import type { NativeFailure } from './addon.ts'
import type { MutexError } from './errors.ts'
import { platform } from './platform.ts'

/** The error to throw for a native failure of the mutex `name`. */
export function toMutexError(name: string, failure: NativeFailure): MutexError | TypeError {
  return platform.explain(`Mutex ${JSON.stringify(name)}: `, failure)
}
