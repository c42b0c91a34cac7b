// fs-ext as its README shows it: the call with a callback, which blocks a thread of libuv's pool (4 of them by default) until the lock
// is there. There is nothing to set. The unlock is the synchronous one: it never waits, and is the faster of the two.
import { openSync } from 'node:fs'
import path from 'node:path'
import { type Peer, requirePeer } from './peer.ts'

interface FsExt {
  flock(fd: number, flags: 'ex', callback: (error: Error | null) => void): void
  flockSync(fd: number, flags: 'un'): void
}

export const fsExt: Peer = {
  name: 'fs-ext',
  waits: "`flock(fd, 'ex', callback)`: `flock(2)` on a thread of libuv's pool",
  file: (folder, name) => path.join(folder, name),
  async open(folder, name) {
    const { flock, flockSync }: FsExt = requirePeer('fs-ext')
    const fd = openSync(fsExt.file(folder, name), 'a')
    return {
      acquire: () => new Promise((resolve, reject) => flock(fd, 'ex', (error) => (error ? reject(error) : resolve()))),
      release() {
        flockSync(fd, 'un')
      },
    }
  },
}
