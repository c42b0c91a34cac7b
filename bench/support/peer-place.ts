// Where the locks lie. On another file system a peer would be measured with what that costs.
import { lstatSync, readdirSync } from 'node:fs'
import path from 'node:path'
import type { Peer } from '../peers/peer.ts'
import { NAME } from './peer-bench.ts'
import { Party } from './peer-process.ts'

const LIMIT_MS = 10_000

/**
 * Ends the run where a peer that owns its mutex has not put its lock into `folder`, which must be empty, or where the
 * lock leads to another file system.
 */
export async function requireLockWithin(folder: string, peer: Peer): Promise<void> {
  await using party = await Party.start(peer, folder, NAME)
  await party.ask(LIMIT_MS, 'acquire')
  const { dev } = lstatSync(folder)
  const file = path.basename(peer.file(folder, NAME))
  const locks = readdirSync(folder).filter((name) => name.startsWith(file))
  const isHere = locks.length > 0 && locks.every((name) => isOwnOn(dev, path.join(folder, name)))
  if (!isHere) throw new Error(`${peer.name} does not lock in ${folder}, where the locks of all peers must lie`)
}

function isOwnOn(dev: number, file: string): boolean {
  const status = lstatSync(file)
  return status.dev === dev && !status.isSymbolicLink()
}
