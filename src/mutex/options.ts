// Checks what users pass in, at the edge, so that the code behind does not have to check again.
import { defaultMaxListeners, getMaxListeners, setMaxListeners } from 'node:events'
import { inspect } from 'node:util'
import { MutexArgumentError } from './errors.ts'
import { nearestName } from './nearest-name.ts'

/** The options of every call that may wait for a lock. */
export interface WaitOptions {
  /**
   * How long to wait, in milliseconds, 0 or more. 0 tries once. Default: `Infinity`. Measured by the monotonic clock:
   * changing the time of day does not matter.
   */
  readonly timeoutMs?: number | undefined
  /** Why the lock is wanted, in a few words (256 UTF-16 units are kept). Others read it while they wait. */
  readonly purpose?: string | undefined
}

export interface ReportedProgress {
  /** How much is done, 0 or more. */
  readonly done: number
  /** How much there is to do, where that is known. */
  readonly total?: number | undefined
  /** What is counted, such as `bytes` (32 UTF-16 units are kept). */
  readonly unit?: string | undefined
}

export function invalidArgument(message: string): MutexArgumentError {
  return new MutexArgumentError('ERR_MUTEX_INVALID_ARGUMENT', message)
}

export function checkTimeout(option: string, value: unknown): void {
  if (typeof value === 'number' && value >= 0) return
  throw invalidArgument(
    `The option "${option}" must be a number of milliseconds, 0 or more, or Infinity, not ${inspect(value)}`,
  )
}

export function checkSignal(signal: unknown): AbortSignal | undefined {
  // By its shape: a signal of another realm or a polyfill is a signal too.
  const candidate = signal as Partial<AbortSignal> | null | undefined
  if (candidate === undefined) return undefined
  if (
    typeof candidate === 'object' &&
    typeof candidate?.aborted === 'boolean' &&
    typeof candidate.addEventListener === 'function'
  ) {
    return candidate as AbortSignal
  }
  throw invalidArgument(
    `The option "signal" must be an AbortSignal, not ${candidate === null ? 'null' : typeof signal}`,
  )
}

const MANY_WAITS = 10_000

/** Many waits may share one signal, which is no leak: prevents Node's warning about more than ten listeners. */
export function allowManyWaits(signal: AbortSignal): void {
  if (signal instanceof EventTarget && listenerLimit(signal) === defaultMaxListeners)
    setMaxListeners(MANY_WAITS, signal)
}

/** Node 20 does not tell it of a signal that `AbortSignal.any` has made. */
function listenerLimit(signal: AbortSignal): number {
  try {
    return getMaxListeners(signal)
  } catch {
    return defaultMaxListeners
  }
}

/** Older signals and polyfills have no `reason`. */
export function abortReason(signal: AbortSignal): unknown {
  const { reason } = signal
  return reason === undefined ? new DOMException('This operation was aborted', 'AbortError') : reason
}

export function checkString(option: string, value: unknown): string | undefined {
  if (value === undefined || typeof value === 'string') return value
  throw invalidArgument(`The option "${option}" must be a string, not ${value === null ? 'null' : typeof value}`)
}

export function checkFunction(option: string, value: unknown): void {
  if (value === undefined || typeof value === 'function') return
  throw invalidArgument(`The option "${option}" must be a function, not ${value === null ? 'null' : typeof value}`)
}

export function checkOptions(value: unknown): void {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return
  const what = value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value
  throw invalidArgument(`The options must be an object, not ${what}`)
}

export function checkBoolean(option: string, value: unknown): void {
  if (value === undefined || typeof value === 'boolean') return
  throw invalidArgument(`The option "${option}" must be true or false, not ${inspect(value)}`)
}

/** The names of the options in `T`. The compiler refuses a list that lacks one or has an extra one. */
export function namesOf<T>(names: { readonly [Name in keyof Required<T>]: true }): ReadonlySet<string> {
  return new Set(Object.keys(names))
}

/**
 * Refuses an option that is not in `known`. Otherwise a misspelt option would be ignored, and a misspelt `timeoutMs`
 * would wait forever. Looks at own enumerable keys only, and ignores values of `undefined`. `what` names what has the
 * options, as in "acquire()".
 * @throws `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`, or what `refuse` makes of the message
 */
export function checkKnown(
  options: object,
  known: ReadonlySet<string>,
  what: string,
  refuse: (message: string) => Error = invalidArgument,
): void {
  // for-in and not Object.keys, which would make an array at every acquire.
  for (const key in options) if (!known.has(key)) checkUnknown(options, key, known, what, refuse)
}

function checkUnknown(
  options: object,
  key: string,
  known: ReadonlySet<string>,
  what: string,
  refuse: (message: string) => Error,
): void {
  if (!Object.hasOwn(options, key)) {
    // A signal has only inherited keys. acquire(signal) would wait forever and ignore the signal.
    if (key === 'aborted') throw refuse(`${what} takes an object of options, and an AbortSignal as its option "signal"`)
    return
  }
  if ((options as Record<string, unknown>)[key] === undefined) return
  const shown = JSON.stringify(key.length > 80 ? `${key.slice(0, 80)}…` : key)
  const nearest = nearestName(key, known)
  const hint = nearest === undefined ? '' : ` Did you mean "${nearest}"?`
  throw refuse(`${what} has no option ${shown}.${hint} Known options: ${[...known].join(', ')}`)
}

const PROGRESS = namesOf<ReportedProgress>({ done: true, total: true, unit: true })

export function checkProgress(progress: ReportedProgress): void {
  const valid = (value: unknown) => typeof value === 'number' && Number.isFinite(value) && value >= 0
  checkOptions(progress)
  checkKnown(progress, PROGRESS, 'The progress of report()')
  if (!valid(progress.done))
    throw invalidArgument(`The progress's "done" must be a finite number, 0 or more, not ${inspect(progress.done)}`)
  if (progress.total !== undefined && !valid(progress.total)) {
    throw invalidArgument(`The progress's "total" must be a finite number, 0 or more, not ${inspect(progress.total)}`)
  }
  checkString('unit', progress.unit)
}
