// flock(1) of util-linux as a Node program can use it: a child process that holds the lock until its input ends, which it does when
// its parent dies as well. `--no-fork` makes the one that waits and the one that holds a single process.
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { Readable, Writable } from 'node:stream'
import type { Peer } from './peer.ts'

export const flock1: Peer = {
  name: 'flock(1)',
  waits: 'a child process, `flock --no-fork FILE cat`',
  file: (folder, name) => path.join(folder, name),
  async open(folder, name) {
    const file = flock1.file(folder, name)
    let owner: ChildProcessByStdio<Writable, Readable, null> | undefined
    return {
      async acquire() {
        owner = spawn('flock', ['--no-fork', file, 'cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
        owner.stdin.write('owned\n')
        await once(owner.stdout, 'data')
      },
      async release() {
        if (owner === undefined) return
        const gone = once(owner, 'exit')
        owner.stdin.end()
        await gone
      },
    }
  },
}
