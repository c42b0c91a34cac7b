// cross-process-lock: a file with the owner's pid, looked at every 500 ms, which can't be set. `waitTimeout` (10 s by default) is lifted,
// so that a wait ends by owning; `lockTimeout`, after which the owner loses the lock, stays at its default of 20 minutes.
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { type Peer, requirePeer } from './peer.ts'

type Unlock = () => Promise<void>

interface CrossProcessLock {
  lock(file: string, options: { readonly waitTimeout: number }): Promise<Unlock>
}

export const crossProcessLock: Peer = {
  name: 'cross-process-lock',
  waits: '`lock(file)`: looks at a file every 500 ms, which is fixed',
  pollMs: 500,
  staleMs: 1_200_000,
  file: (folder, name) => path.join(folder, name),
  async open(folder, name) {
    const { lock }: CrossProcessLock = requirePeer('cross-process-lock')
    const file = crossProcessLock.file(folder, name)
    // The file must exist.
    writeFileSync(file, '')
    let unlock: Unlock | undefined
    return {
      async acquire() {
        unlock = await lock(file, { waitTimeout: Number.POSITIVE_INFINITY })
      },
      release: () => unlock?.(),
    }
  },
}
