// What a package must do to be measured: one small file each, in this folder.
import { createRequire } from 'node:module'

export interface PeerMutex {
  /** Resolves when this process owns the mutex, however long that takes. */
  acquire(): Promise<void>
  /** Awaited only where the package's own release is a promise. */
  release(): undefined | Promise<void>
}

export interface Peer {
  /** The package's name. */
  readonly name: string
  /** How it waits, for the report. */
  readonly waits: string
  /** The span between two looks at the mutex, where it looks instead of being woken. */
  readonly pollMs?: number
  /** How long an owner may be silent before it loses the mutex, where it can. */
  readonly staleMs?: number
  /** The file in which the kernel queues those who wait, or after which the package names its own. */
  file(folder: string, name: string): string
  /** Loads the package and opens the mutex. Not where `program` takes part instead. */
  open(folder: string, name: string): Promise<PeerMutex>
  /** Its processes are no Node processes: the name of a C file in this folder. */
  readonly program?: string
}

/** Loads from the `node_modules` of this folder, which is no part of the project's own installation. */
export const requirePeer = createRequire(new URL('../../../bench/peers/package.json', import.meta.url))
