// What the figures were measured on.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import os from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Peer } from '../peers/peer.ts'
import { FLOOR, OURS } from './peer-list.ts'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly fileSystem: string
  readonly node: string
  readonly versions: Readonly<Record<string, string>>
}

function manifestVersion(fromRoot: string): string {
  const file = fileURLToPath(new URL(`../../../${fromRoot}/package.json`, import.meta.url))
  return JSON.parse(readFileSync(file, 'utf8')).version
}

function lines(command: string, ...args: readonly string[]): string[] {
  return execFileSync(command, args, { encoding: 'utf8' }).split('\n')
}

function versionOf(peer: Peer): string {
  if (peer === OURS) return manifestVersion('.')
  if (peer === FLOOR) return lines('cc', '--version')[0] ?? ''
  if (peer.name === 'flock(1)') return lines('flock', '--version')[0]?.replace(/^flock from /, '') ?? ''
  return manifestVersion(`bench/peers/node_modules/${peer.name}`)
}

export function describeMachine(peers: readonly Peer[], folder: string): Machine {
  const cpus = os.cpus()
  return {
    cpu: cpus[0]?.model ?? 'unknown',
    cores: cpus.length,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()}`,
    fileSystem: lines('df', '--output=fstype', folder)[1] ?? 'unknown',
    node: process.versions.node,
    versions: Object.fromEntries(peers.map((peer) => [peer.name, versionOf(peer)])),
  }
}
