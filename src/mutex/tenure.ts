// A tenure is the part of a held lock that outlives the lock's object. If that object is garbage collected, the lock
// stays held: losing exclusion would be the worse failure.
//
// Entering and leaving a FinalizationRegistry at every acquire costs too much. So the registry watches a leash instead:
// a small object that only the lock refers to while it is held, and that goes back to its mutex at the release, for the
// next lock. If a leash is collected while its tenure is in force, its lock was collected.
import type { Hold, NativeMutex } from './addon.ts'
import { MutexLostError } from './errors.ts'
import { notify } from './telemetry.ts'

export class Tenure {
  readonly mutexName: string
  readonly path: string
  readonly native: NativeMutex
  /** 0: not in force. */
  hold: Hold = 0
  purpose: string | undefined
  #lost: MutexLostError | undefined
  #controller: AbortController | undefined

  constructor(mutexName: string, path: string, native: NativeMutex) {
    this.mutexName = mutexName
    this.path = path
    this.native = native
  }

  begin(hold: Hold, purpose: string | undefined): void {
    this.hold = hold
    this.purpose = purpose
  }

  end(): void {
    this.hold = 0
    this.purpose = undefined
    this.#lost = undefined
    this.#controller = undefined
  }

  /** Aborts when the lock is lost. */
  get lost(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#lost !== undefined) this.#controller.abort(this.#lost)
    }
    return this.#controller.signal
  }

  /** Checks whether the lock is lost, and reports the loss once. */
  look(): void {
    if (this.hold === 0 || this.#lost !== undefined || !this.native.isLost(this.hold)) return
    const { mutexName, path, purpose } = this
    this.#lost = lostError(mutexName, path)
    notify('lost', () => ({ mutex: mutexName, path, ...(purpose === undefined ? {} : { purpose }) }))
    if (this.#controller === undefined) {
      process.emitWarning(`${this.#lost.message} Listen to "lock.lost" to be notified in time.`, {
        type: 'MutexWarning',
        code: 'OS_MUTEX_LOST',
      })
    } else {
      this.#controller.abort(this.#lost)
    }
  }
}

/** What the registry watches. */
export class Leash {
  readonly tenure: Tenure

  constructor(tenure: Tenure) {
    this.tenure = tenure
    tenures.add(tenure)
    collected.register(this, tenure)
  }
}

/** More than a mutex needs, unless many wait for it. Leashes beyond this go to the garbage collector. */
const MOST_FREE = 4

/** The leashes of one mutex. */
export class Leashes {
  readonly mutexName: string
  readonly native: NativeMutex
  readonly #path: string
  readonly #free: Leash[] = []
  #latest: Tenure | undefined

  constructor(mutexName: string, path: string, native: NativeMutex) {
    this.mutexName = mutexName
    this.native = native
    this.#path = path
  }

  /** For one lock, which gives it back when it is released. */
  lend(): Leash {
    return this.#free.pop() ?? new Leash(new Tenure(this.mutexName, this.#path, this.native))
  }

  takeBack(leash: Leash): void {
    leash.tenure.end()
    if (this.#free.length < MOST_FREE) this.#free.push(leash)
  }

  /** The lock of this tenure was acquired. */
  began(tenure: Tenure): void {
    this.#latest = tenure
  }

  /** Checks whether the latest lock is lost. */
  look(): void {
    this.#latest?.look()
  }
}

/** The tenures of all mutexes of this thread, in force or not. Keeps alive what a collected lock holds. */
export const tenures = new Set<Tenure>()

const collected = new FinalizationRegistry<Tenure>((tenure) => {
  if (tenure.hold === 0) {
    tenures.delete(tenure)
    return
  }
  tenure.native.noteCollected(tenure.hold)
  const why = tenure.purpose === undefined ? '' : `, acquired to ${JSON.stringify(tenure.purpose)},`
  process.emitWarning(
    `A lock of the mutex ${JSON.stringify(tenure.mutexName)}${why} was garbage collected before it was released. The mutex stays held ` +
      'until this process or worker thread ends. Keep the lock in a variable that lives as long as it is needed, such as one of the ' +
      'module, and release it, for example by "await using" or withLock().',
    { type: 'MutexWarning', code: 'OS_MUTEX_LOCK_COLLECTED' },
  )
})

function lostError(mutexName: string, path: string): MutexLostError {
  return new MutexLostError(
    `Mutex ${JSON.stringify(mutexName)} was lost while it was held: somebody, perhaps a cleaner of temporary files, removed or replaced ` +
      `its lock file ${path}, so another process may own the mutex now. Stop the work that it protects, release the lock, and acquire ` +
      'it again.',
    { mutexName, path },
  )
}
