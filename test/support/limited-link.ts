// Two network namespaces and a link between them that lets through so many bits a second (tc's tbf): one for a server, one for its
// clients. Linux, for root. It has no delay worth the name: this needs netem, which not every kernel has. See delayed-relay.ts.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'

/** Words that start a program on one side. */
export type Side = readonly string[]

const address = '10.77.0.1'

export class LimitedLink implements AsyncDisposable {
  /** Of the server's side. */
  readonly address = address
  readonly server: Side
  readonly client: Side
  readonly #keepers: readonly ChildProcess[]

  private constructor(keepers: readonly [ChildProcess, ChildProcess]) {
    const [server, client] = keepers.map(({ pid }) => ['nsenter', `--net=/proc/${pid}/ns/net`])
    this.#keepers = keepers
    this.server = server ?? []
    this.client = client ?? []
  }

  /** The limit is that of the way to the clients; what they send is let through as it comes. */
  static async start({ bitsPerSecond }: { readonly bitsPerSecond: number }): Promise<LimitedLink> {
    const keepers = [await keeper(), await keeper()] as const
    const link = new LimitedLink([...keepers])
    try {
      const [server, client] = keepers
      call(link.server, `ip link add os-server type veth peer name os-client netns ${client.pid}`)
      call(link.server, `ip addr add ${address}/24 dev os-server && ip link set os-server up && ip link set lo up`)
      call(link.client, 'ip addr add 10.77.0.2/24 dev os-client && ip link set os-client up && ip link set lo up')
      // The bucket must hold the largest segment that the interface is given at once, which is 64 KiB.
      const shape = `rate ${bitsPerSecond}bit burst 256kb latency 50ms`
      call(link.server, `tc qdisc add dev os-server root tbf ${shape}`)
      if (server.exitCode !== null) throw new Error('The namespace is gone')
      return link
    } catch (error) {
      await link[Symbol.asyncDispose]()
      throw error
    }
  }

  /** What runs on either side goes on, without a network. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const keeper of this.#keepers) {
      keeper.stdin?.end()
      if (keeper.exitCode === null && keeper.signalCode === null) await once(keeper, 'exit')
    }
  }
}

/** A process that does nothing but keep a namespace. It ends when its stdin does, so also with this process. */
async function keeper(): Promise<ChildProcess> {
  const child = spawn('unshare', ['--net', 'sh', '-c', 'echo ready; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const ready = child.stdout === null ? Promise.reject(new Error('no output')) : once(child.stdout, 'data')
  const ended = once(child, 'exit').then(([code]) => Promise.reject(new Error(`unshare --net ended (${code})`)))
  await Promise.race([ready, ended])
  ended.catch(() => {})
  return child
}

function call(side: Side, script: string): void {
  const [command = '', ...words] = side
  const { status, stderr, error } = spawnSync(command, [...words, 'sh', '-c', script], { encoding: 'utf8' })
  if (error || status !== 0)
    throw new Error(`${script}: ${error?.message ?? stderr}. On Debian or Ubuntu: apt-get install iproute2`)
}
