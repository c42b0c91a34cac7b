// Containers on one machine: each with its own pids, host name, mounts and /tmp, and all with one folder of models, as Docker and
// Kubernetes make them. Linux, for root. What runs in one ends with it.
import { type ChildProcess, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { childrenOf, Mounts } from './namespaces.ts'
import type { ProcessOptions } from './party.ts'

export interface ContainerOptions {
  /** Folders of this process that are seen in there too, under the same paths. */
  readonly shared: readonly string[]
  /** Default: `container`. */
  readonly hostname?: string
  /** Default: the machine's own. */
  readonly bootId?: string
  /** Its /proc shows each user only what is his. Default: `false`. */
  readonly hidesProcesses?: boolean
  /** How a shared folder gets its place, as a shell command. Default: by a bind mount. */
  readonly mount?: (folder: string, at: string) => string
}

/** What starts a process in there. */
export interface Entry extends ProcessOptions {
  readonly execPath: string
  readonly execArgv: readonly string[]
}

/** The process that a `Container.node()` has started: nsenter stands between, and ends with it. */
export function startedBy(pid: number): number {
  return childrenOf(pid)[0] ?? pid
}

const namespaces = ['--uts', '--ipc', '--pid', '--fork', '--kill-child', '--mount-proc']

export class Container implements AsyncDisposable {
  readonly hostname: string
  readonly #mounts: Mounts
  readonly #scratch: string

  private constructor(hostname: string, mounts: Mounts, scratch: string) {
    this.hostname = hostname
    this.#mounts = mounts
    this.#scratch = scratch
  }

  static async start(options: ContainerOptions): Promise<Container> {
    const { hostname = 'container' } = options
    const scratch = mkdtempSync(join(tmpdir(), 'os-mutex-container-'))
    try {
      return new Container(hostname, await Mounts.made(scriptOf(options, hostname, scratch), namespaces), scratch)
    } catch (error) {
      rmSync(scratch, { recursive: true })
      throw error
    }
  }

  /** For `Party`, `FaultProcess.start` and `GateProcess.start`: Node in there. `uid`: as this user. */
  node({ uid }: { readonly uid?: number } = {}): Entry {
    const [execPath = '', ...words] = this.#words(uid)
    return { execPath, execArgv: [...words, process.execPath] }
  }

  /** Runs a program in there to its end. */
  run(command: string, args: readonly string[] = [], as: { readonly uid?: number } = {}): SpawnSyncReturns<string> {
    const [program = '', ...words] = this.#words(as.uid)
    const result = spawnSync(program, [...words, command, ...args], { encoding: 'utf8' })
    if (result.error) throw result.error
    return result
  }

  /** Starts a program in there, which ends when the container does. */
  spawn(command: string, args: readonly string[] = []): ChildProcess {
    const [program = '', ...words] = this.#words(undefined)
    return spawn(program, [...words, command, ...args], { stdio: 'pipe' })
  }

  /** Where this process finds a file of the container. */
  pathOf(path: string): string {
    return this.#mounts.pathOf(path)
  }

  /** Ends all that runs in there, as a machine's end would. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mounts[Symbol.asyncDispose]()
    rmSync(this.#scratch, { recursive: true, force: true })
  }

  #words(uid: number | undefined): string[] {
    const enter = ['nsenter', `--target=${this.#mounts.pid}`, '--mount', '--uts', '--ipc', '--pid']
    if (uid === undefined) return enter
    return [...enter, 'setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
  }
}

/** The new /tmp is put together elsewhere, as long as the old one can be seen, and then moved to its place. */
function scriptOf(options: ContainerOptions, hostname: string, scratch: string): string {
  const { shared, bootId, hidesProcesses, mount = bindMount } = options
  const [tmp, id] = [join(scratch, 'tmp'), join(scratch, 'boot_id')]
  mkdirSync(tmp)
  if (bootId !== undefined) writeFileSync(id, `${bootId}\n`)
  const lines = [
    `echo ${hostname} >/proc/sys/kernel/hostname`,
    ...(hidesProcesses ? ['mount -t proc -o hidepid=2 proc /proc'] : []),
    ...(bootId === undefined ? [] : [`mount --bind ${id} /proc/sys/kernel/random/boot_id`]),
    `mount -t tmpfs -o mode=1777 tmpfs ${tmp}`,
    ...shared.flatMap((folder) => {
      const at = folder.startsWith('/tmp/') ? join(tmp, folder.slice('/tmp/'.length)) : folder
      return [`mkdir -p ${at}`, mount(folder, at)]
    }),
    `mount --move ${tmp} /tmp`,
  ]
  return lines.join('\n')
}

function bindMount(folder: string, at: string): string {
  return `mount --bind ${folder} ${at}`
}
