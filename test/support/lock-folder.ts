// A lock home of a test's own, so that tests can't meet in one mutex.
import { chmodSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type MutexLock, NamedMutex, type NamedMutexOptions } from 'os-mutex'
import { Party } from './party.ts'

export class LockFolder implements AsyncDisposable {
  readonly path = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-test-')))
  readonly #parties = new Set<Party>()
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

  mutex(name: string, options: NamedMutexOptions = {}): NamedMutex {
    return new NamedMutex(name, { directory: this.path, ...options })
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
  process(options: { readonly execArgv?: readonly string[]; readonly uid?: number } = {}): Promise<Party> {
    return this.#add(Party.process(this.path, options))
  }

  /** The same, as a worker thread of this process. */
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
    rmSync(this.path, { recursive: true, force: true })
  }
}

/** Whether the mutex is free to be taken; leaves it so. */
export function canTake(mutex: NamedMutex): boolean {
  const lock = mutex.tryAcquire()
  lock?.release()
  return lock !== null
}
