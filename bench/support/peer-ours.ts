// This package, by its promises: what a program with an event loop uses. It is not in bench/peers, whose package.json would hide ours.
import path from 'node:path'
import type { MutexLock } from 'os-mutex'
import type { Peer } from '../peers/peer.ts'

export const osMutex: Peer = {
  name: 'os-mutex',
  waits: '`acquire()`: tries `flock(2)`, then waits for it on its own thread',
  file: (folder, name) => path.join(folder, `.os-mutex-${name}`),
  async open(folder, name) {
    const { NamedMutex } = await import('os-mutex')
    const mutex = new NamedMutex(`Global\\${name}`, { directory: folder })
    let lock: MutexLock | undefined
    return {
      async acquire() {
        lock = await mutex.acquire()
      },
      release() {
        lock?.release()
      },
    }
  },
}
