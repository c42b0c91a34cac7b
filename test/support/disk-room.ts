// A small disk of a test's own, to be filled up and made read-only: a tmpfs in a mount namespace of its own, which goes when its
// shell goes. This process sees it through the shell's /proc/<pid>/root. Linux only; for root, or where users may make namespaces.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmdirSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** Why a test that needs such a disk is skipped, if it is. */
export const noRoom =
  process.platform !== 'linux' && 'a small disk of its own is made by mount namespaces, which only Linux has'

export interface RoomOptions {
  readonly bytes: number
  /** How many files and folders it can have, its own root included. */
  readonly inodes?: number
}

export class DiskRoom implements AsyncDisposable {
  /** Where this process finds it. */
  readonly path: string
  readonly #shell: ChildProcess
  readonly #folder: string
  readonly #answers: AsyncIterator<string>
  readonly #exited: Promise<unknown>

  private constructor(shell: ChildProcess, folder: string) {
    this.#shell = shell
    this.#folder = folder
    this.path = join(`/proc/${shell.pid}/root`, folder)
    this.#exited = once(shell, 'exit').catch(() => {})
    if (!shell.stdout) throw new Error('The shell has no output')
    // One that could not be started shows by answering nothing.
    shell.stdin?.on('error', () => {})
    this.#answers = createInterface({ input: shell.stdout })[Symbol.asyncIterator]()
  }

  static async open({ bytes, inodes = 1_000 }: RoomOptions): Promise<DiskRoom> {
    const folder = mkdtempSync(join(tmpdir(), 'os-mutex-room-'))
    const asRoot = process.geteuid?.() === 0 ? [] : ['--user', '--map-root-user']
    const shell = spawn('unshare', [...asRoot, '--mount', 'sh'], { stdio: 'pipe' })
    const room = new DiskRoom(shell, folder)
    try {
      await room.#mount(`size=${bytes},nr_inodes=${inodes}`)
      return room
    } catch (cause) {
      await room[Symbol.asyncDispose]()
      const what = 'A test needs a small disk of its own: run it as root, or let users make namespaces'
      throw new Error(`${what} (on Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0)`, { cause })
    }
  }

  /** Leaves `bytes` free. */
  fill(bytes = 0): void {
    const ballast = openSync(join(this.path, 'ballast'), 'w')
    const page = Buffer.alloc(4096)
    let size = 0
    try {
      for (;;) size += writeSync(ballast, page)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      ftruncateSync(ballast, Math.max(0, size - bytes))
    } finally {
      closeSync(ballast)
    }
  }

  /** Takes that back. */
  clear(): void {
    unlinkSync(join(this.path, 'ballast'))
  }

  /** Other mount options, such as `ro` or `nr_inodes=50`. */
  async remount(options: string): Promise<void> {
    await this.#mount(`remount,${options}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#shell.stdin?.end()
    this.#shell.kill()
    await this.#exited
    rmdirSync(this.#folder)
  }

  async #mount(options: string): Promise<void> {
    // Named in full, also when it is mounted again: else mount adds the options that it reads back, and those hold the user's id
    // outside of the namespace.
    const mount = `mount -t tmpfs -o ${options} os-mutex-room '${this.#folder}'`
    this.#shell.stdin?.write(`if said=$(${mount} 2>&1); then echo done; else echo $said; fi\n`)
    const { value, done } = await this.#answers.next()
    if (done || value !== 'done') throw new Error(`${mount} said: ${done ? 'nothing' : value}`)
  }
}
