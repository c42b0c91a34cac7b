// All who are measured, in the order of the report. The bare C loop is no peer but the floor.
import { bareC } from '../peers/bare-c.ts'
import { crossProcessLock } from '../peers/cross-process-lock.ts'
import { flock1 } from '../peers/flock-1.ts'
import { fsExt } from '../peers/fs-ext.ts'
import { fsNativeExtensions } from '../peers/fs-native-extensions.ts'
import { namedMutex } from '../peers/named-mutex.ts'
import type { Peer } from '../peers/peer.ts'
import { properLockfile } from '../peers/proper-lockfile.ts'
import { osMutex } from './peer-ours.ts'

export const OURS = osMutex
export const FLOOR = bareC

export const PEERS: readonly Peer[] = [
  OURS,
  fsExt,
  fsNativeExtensions,
  properLockfile,
  namedMutex,
  crossProcessLock,
  flock1,
  FLOOR,
]

export function peerNamed(name: string | undefined): Peer {
  const peer = PEERS.find((one) => one.name === name)
  if (peer === undefined) throw new Error(`No peer is named "${name}": ${PEERS.map((one) => one.name).join(', ')}`)
  return peer
}
