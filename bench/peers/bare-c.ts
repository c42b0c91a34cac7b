// flock(2) in a loop, in C: the floor, without JavaScript, an event loop or a record of the owner.
import path from 'node:path'
import type { Peer } from './peer.ts'

export const bareC: Peer = {
  name: 'bare C',
  waits: '`flock(2)`, which blocks the program',
  file: (folder, name) => path.join(folder, name),
  open: () => Promise.reject(new Error('flock_party.c takes part instead')),
  program: 'flock_party',
}
