// A lock home of a test's own, so that tests can't meet in one mutex.
import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type MutexLock, NamedMutex, type NamedMutexOptions } from 'os-mutex'
import { Party, type ProcessOptions } from './party.ts'

export class LockFolder implements AsyncDisposable {
  readonly path = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-test-')))
  readonly #parties = new Set<Party>()
  readonly #mutexes: NamedMutex[] = []
  #names = 0

  /** Lets every user make files in it, as in /tmp. */
  openToAll(): this {
    chmodSync(this.path, 0o1777)
    return this
  }

  /** A name that this folder has not given yet. */
  uniqueName(scope: 'Global\\' | 'Local\\' | '' = 'Global\\'): string {
    this.#names++
    return `${scope}mutex ${this.#names}`
  }

  /** It is closed with the folder, if not before. */
  mutex(name: string, options: NamedMutexOptions = {}): NamedMutex {
    const mutex = new NamedMutex(name, { directory: this.path, ...options })
    this.#mutexes.push(mutex)
    return mutex
  }

  /** Takes and releases the mutex: its lock tells what the next owner is told. */
  async nextOwner(name: string): Promise<MutexLock> {
    const lock = await this.mutex(name).acquire({ timeoutMs: 10_000 })
    lock.release()
    return lock
  }

  /** The lock file of a mutex in this folder. */
  fileOf(name: string): string {
    return this.mutex(name).path
  }

  /** A child process that can be told what to do. It ends with the folder, if not before. */
  process(options: ProcessOptions = {}): Promise<Party> {
    return this.#add(Party.process(this.path, options))
  }

  /**
   * Windows: a process whose mutexes are in the default lock home, which is in this folder for it. Such a mutex has its very name
   * in the kernel, for all the machine: it takes a name of the test's own.
   */
  processAtHome(): Promise<Party> {
    const env = { ...process.env }
    for (const key of Object.keys(env)) if (/^(ProgramData|OS_MUTEX_DIR)$/i.test(key)) delete env[key]
    return this.#add(Party.process('', { env: { ...env, ProgramData: this.path } }))
  }

  /** As {@link process}, but a worker thread of this process. */
  thread(): Promise<Party> {
    return this.#add(Party.thread(this.path))
  }

  async #add(started: Promise<Party>): Promise<Party> {
    const party = await started
    this.#parties.add(party)
    return party
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#parties].map((party) => party.kill()))
    // Windows removes no file that is open: a lock that a test has left held fails here.
    for (const mutex of this.#mutexes) mutex.close()
    rmSync(this.path, { recursive: true, force: true, maxRetries: 3 })
  }
}

/** Whether the mutex is free to be taken; leaves it so. */
export function canTake(mutex: NamedMutex): boolean {
  const lock = mutex.tryAcquire()
  lock?.release()
  return lock !== null
}
