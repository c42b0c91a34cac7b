// Where containers, sandboxes and hardened machines differ from an ordinary one: other mounts, other pids, a /proc that
// hides. Linux, for root. A mount namespace is kept by a shell and goes with it, whatever becomes of the test.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, readlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import type { ProcessOptions } from './party.ts'

function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'only Linux has pid and mount namespaces'
  if (process.geteuid?.() !== 0) return 'only root may make pid and mount namespaces'
  const { status } = spawnSync('unshare', ['--pid', '--mount', '--fork', '--mount-proc', 'true'])
  return status === 0 ? undefined : 'this machine lets nobody make pid and mount namespaces'
}

const reason = whyNot()

/** Options of a test that needs them: skips it, with the reason, where there can't be any. */
export const withNamespaces = reason === undefined ? {} : { skip: reason }

/** The pid namespace that sees all processes of the machine, and their locks. */
export const inInitialPidSpace =
  process.platform === 'linux' && readlinkSync('/proc/self/ns/pid') === `pid:[${0xeffffffc}]`

export interface Place {
  /** It counts pids from 1, as a container does. `hostsProc`: it sees the /proc of the outside all the same. */
  readonly pids?: 'own' | 'hostsProc'
  readonly uid?: number
}

/** Starts a party in such a place of this machine. */
export function startedIn({ pids, uid }: Place, mounts?: Mounts): ProcessOptions {
  const words = [
    ...(mounts === undefined ? [] : ['nsenter', `--mount=/proc/${mounts.pid}/ns/mnt`]),
    ...(pids === undefined ? [] : ['unshare', '--pid', '--fork', '--kill-child']),
    ...(pids === 'own' ? ['--mount-proc'] : []),
    ...(uid === undefined ? [] : ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']),
  ]
  const [execPath = process.execPath, ...rest] = [...words, process.execPath]
  return { execPath, execArgv: rest }
}

/** Mounts that only those see who are started in here. */
export class Mounts implements AsyncDisposable {
  readonly #shell: ChildProcess
  #pid = 0

  private constructor(shell: ChildProcess) {
    this.#shell = shell
  }

  /** Of the shell in here, as it is known outside. */
  get pid(): number {
    return this.#pid
  }

  /**
   * `script`: shell commands that mount. Throws with what they said when one of them fails. `others`: words for unshare, for
   * namespaces beside that of mounts; with a pid namespace the shell is its process 1, and all in it end with it.
   */
  static async made(script: string, others: readonly string[] = []): Promise<Mounts> {
    const all = `set -e\n{ ${script}\n} >&2\necho mounted\ncat`
    const words = ['--mount', '--propagation', 'private', ...others, 'sh', '-c', all]
    const shell = spawn('unshare', words, { stdio: 'pipe' })
    const mounts = new Mounts(shell)
    let said = ''
    shell.stderr?.on('data', (chunk) => {
      said += chunk
    })
    const { value } = await createInterface({ input: shell.stdout as NonNullable<typeof shell.stdout> })
      [Symbol.asyncIterator]()
      .next()
    const pid = shell.pid ?? 0
    mounts.#pid = others.includes('--fork') ? (childrenOf(pid)[0] ?? pid) : pid
    if (value === 'mounted') return mounts
    await mounts[Symbol.asyncDispose]()
    throw new Error(`Could not mount: ${said}`)
  }

  /** A file as those in here see it. */
  pathOf(path: string): string {
    return `/proc/${this.pid}/root${path}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#shell.stdin?.end()
    this.#shell.kill()
    if (this.#shell.exitCode === null && this.#shell.signalCode === null) await once(this.#shell, 'exit')
  }
}

/** The processes that a process has started and that live, in the pid namespace of this one. */
export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Whether a program can be started at all. */
export function hasProgram(command: string): boolean {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0
}

/** Whether the kernel can make loop devices here. */
export function hasLoopDevices(): boolean {
  try {
    closeSync(openSync('/dev/loop-control', 'r+'))
    return true
  } catch {
    return false
  }
}
