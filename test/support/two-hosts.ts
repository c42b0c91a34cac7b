// Two machines and a folder that both have mounted from a file server. The server is this machine, each mount is one of bindfs, and a
// "machine" is a container with its own boot id: as over a network, a lock of one is not seen by the other, though each takes it and
// sees it itself. Linux, for root.
import { randomUUID } from 'node:crypto'
import { Container } from './containers.ts'
import { hasProgram, withNamespaces } from './namespaces.ts'

/** Options of a test with two hosts: skips it, with the reason, where there are no namespaces. */
export const withTwoHosts = withNamespaces

export class TwoHosts implements AsyncDisposable {
  readonly one: Container
  readonly other: Container

  private constructor(one: Container, other: Container) {
    this.one = one
    this.other = other
  }

  /** Both see `folder` under its own path. Throws where bindfs is missing: a test that needs it must not be skipped in silence. */
  static async open(folder: string): Promise<TwoHosts> {
    if (!hasProgram('bindfs'))
      throw new Error('A test needs the program "bindfs". On Debian or Ubuntu: apt-get install bindfs')
    const one = await host('host-one', folder)
    try {
      return new TwoHosts(one, await host('host-two', folder))
    } catch (error) {
      await one[Symbol.asyncDispose]()
      throw error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.one[Symbol.asyncDispose](), this.other[Symbol.asyncDispose]()])
  }
}

/** What the kernel caches of a FUSE file, it asks for again at each look: the other's changes are seen at once. */
function host(hostname: string, folder: string): Promise<Container> {
  return Container.start({
    hostname,
    bootId: randomUUID(),
    shared: [folder],
    mount: (from, at) => `bindfs -o attr_timeout=0,entry_timeout=0 ${from} ${at}`,
  })
}
