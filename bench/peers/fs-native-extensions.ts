// fs-native-extensions as its README shows it: `waitForLock`, an open-file-description lock (fcntl, F_OFD_SETLKW) taken on a thread that
// is made for each wait. There is nothing to set.
import { openSync } from 'node:fs'
import path from 'node:path'
import { type Peer, requirePeer } from './peer.ts'

interface FsNativeExtensions {
  waitForLock(fd: number): Promise<void>
  unlock(fd: number): void
}

export const fsNativeExtensions: Peer = {
  name: 'fs-native-extensions',
  waits: '`waitForLock(fd)`: `fcntl(F_OFD_SETLKW)` on a new thread for each wait',
  file: (folder, name) => path.join(folder, name),
  async open(folder, name) {
    const { waitForLock, unlock }: FsNativeExtensions = requirePeer('fs-native-extensions')
    const fd = openSync(fsNativeExtensions.file(folder, name), 'a+')
    return {
      acquire: () => waitForLock(fd),
      release() {
        unlock(fd)
      },
    }
  },
}
