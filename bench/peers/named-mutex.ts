// named-mutex: `lock()` tries flock(2) through fs-ext every 100 ms, its default, which we leave.
import { closeSync } from 'node:fs'
import path from 'node:path'
import { type Peer, requirePeer } from './peer.ts'

interface NamedMutex {
  lock(intervalMs?: number): Promise<void>
  unLock(): void
  readonly _fd: number
}

export const namedMutex: Peer = {
  name: 'named-mutex',
  waits: '`lock()`: tries `flock(2)` every 100 ms, its default',
  pollMs: 100,
  file: (folder, name) => path.join(folder, `${name}.mutex`),
  async open(folder, name) {
    const Mutex: new (name: string) => NamedMutex = requirePeer('named-mutex')
    let mutex: NamedMutex | undefined
    return {
      // After its first lock() an instance says for ever that it owns the mutex, released or not (1.0.4), so it serves once. It never
      // closes its file either: thousands of them would run out of descriptors.
      acquire() {
        mutex = new Mutex(path.join(folder, name))
        return mutex.lock()
      },
      release() {
        if (mutex === undefined) return
        mutex.unLock()
        closeSync(mutex._fd)
      },
    }
  },
}
