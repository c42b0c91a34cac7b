// fs-native-extensions as a good user takes it: `tryLock` first, which answers at once on JavaScript's thread. Only where
// that fails, `waitForLock`: an open-file-description lock (fcntl, F_OFD_SETLKW) taken on a new thread for each wait.
// There is nothing to set.
import { openSync } from 'node:fs'
import path from 'node:path'
import { type Peer, requirePeer } from './peer.ts'

interface FsNativeExtensions {
  tryLock(fd: number): boolean
  waitForLock(fd: number): Promise<void>
  unlock(fd: number): void
}

export const fsNativeExtensions: Peer = {
  name: 'fs-native-extensions',
  waits: '`tryLock(fd)`, then `waitForLock(fd)`: `fcntl(F_OFD_SETLKW)` on a new thread for each wait',
  file: (folder, name) => path.join(folder, name),
  async open(folder, name) {
    const { tryLock, waitForLock, unlock }: FsNativeExtensions = requirePeer('fs-native-extensions')
    const fd = openSync(fsNativeExtensions.file(folder, name), 'a+')
    return {
      async acquire() {
        if (!tryLock(fd)) await waitForLock(fd)
      },
      release() {
        unlock(fd)
      },
    }
  },
}
