// proper-lockfile: a folder made by mkdir, kept fresh by the owner. Its README tells those who wait to pass `retries`. The default is
// none, and a number means 1 s, then 2 s, 4 s and so on: a wait would end long after the release. So it tries for ever, every 100 ms, as
// named-mutex does by default. `stale` stays at its default of 10 s.
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { type Peer, requirePeer } from './peer.ts'

type Release = () => Promise<void>

interface ProperLockfile {
  lock(file: string, options: object): Promise<Release>
}

const POLL_MS = 100

export const properLockfile: Peer = {
  name: 'proper-lockfile',
  waits: `\`lock(file, { retries })\`: tries \`mkdir\` every ${POLL_MS} ms; its default is one try`,
  pollMs: POLL_MS,
  staleMs: 10_000,
  file: (folder, name) => path.join(folder, name),
  async open(folder, name) {
    const { lock }: ProperLockfile = requirePeer('proper-lockfile')
    const file = properLockfile.file(folder, name)
    // The file must exist.
    writeFileSync(file, '')
    const retries = { forever: true, factor: 1, minTimeout: POLL_MS, maxTimeout: POLL_MS }
    let release: Release | undefined
    return {
      async acquire() {
        release = await lock(file, { retries })
      },
      release: () => release?.(),
    }
  },
}
