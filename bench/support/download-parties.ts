// Who downloads one file at full speed, each in its own way: a program of the system, or a Node process.
import { spawnSync } from 'node:child_process'
import type { Nginx, NginxFile } from './nginx.ts'
import { NodeDownloader, type NodeJob, type NodeParty, type NodeResult, type Place } from './node-downloader.ts'
import type { Party } from './race.ts'

interface NodeWork {
  readonly party: NodeParty
  readonly url: string
  readonly connections?: number
}

export const ourName = 'os-mutex'

/** Over TLS, on a link that is slower than all of them. */
export function tlsParties(server: Nginx, file: NginxFile, place: Place): Party[] {
  const curl = curlWords(place)
  const { url } = server
  return [
    ...ourParties(url, file, place),
    { ...program('curl', `${curl} -o model.gguf "$1"`, [url], place), least: 0.97 },
    { ...program('curl; openssl dgst', `${curl} -o model.gguf "$1"; ${digest}`, [url], place), mostCpu: 1.6 },
  ]
}

/** Where only the processor counts. */
export function loopbackParties(server: Nginx, file: NginxFile): Party[] {
  const { url } = server
  return [
    ...ourParties(url, file),
    { ...program('curl, which checks nothing', `${curlWords()} -o model.gguf "$1"`, [url]), least: 0.7 },
    { ...program('curl; openssl dgst', `${curlWords()} -o model.gguf "$1"; ${digest}`, [url]), least: 1.15 },
  ]
}

/** On the disk: reported, not judged, since disks vary too much. */
export function diskParties(server: Nginx, file: NginxFile): Party[] {
  const { url, origin } = server
  return [
    ourParty(url, file),
    program('curl, which checks nothing', `${curlWords()} -o model.gguf "$1"`, [url]),
    program('curl; sync; openssl dgst', `${curlWords()} -o model.gguf "$1"; sync model.gguf; ${digest}`, [url]),
    aria2c('aria2c -x1', '-x1', url),
    nodeParty('node-llama-cpp', { party: 'node-llama-cpp', url }, file),
    nodeParty('@huggingface/hub', { party: '@huggingface/hub', url: origin }, file),
  ]
}

/** Where each connection is limited, and several are faster than one. */
export function limitedParties(server: Nginx, file: NginxFile): Party[] {
  return [
    ourParty(server.limitedUrl, file),
    { ...aria2c('aria2c -x8 -s8 -k1M', '-x8 -s8 -k1M', server.limitedUrl), least: 1 },
  ]
}

/** Ours as a user calls it. `connections`: default: as many as it likes. */
export function ourParty(url: string, file: NginxFile, connections?: number, place?: Place): Party {
  const work = { party: 'gate' as const, url, ...(connections !== undefined && { connections }) }
  return { ...nodeParty(ourName, work, file, place), isOurs: true }
}

/** With as many connections as it likes, and with one, as the programs have. */
function ourParties(url: string, file: NginxFile, place?: Place): Party[] {
  return [ourParty(url, file, undefined, place), { ...ourParty(url, file, 1, place), name: 'one connection' }]
}

const digest = 'openssl dgst -sha256 model.gguf'

function curlWords({ certificate }: Place = {}): string {
  return `curl -qsSf${certificate === undefined ? '' : ` --cacert ${certificate}`}`
}

function nodeParty(name: string, work: NodeWork, file: NginxFile, place: Place = {}): Party {
  return {
    name,
    run: async (folder) => {
      const startedAt = performance.now()
      const { callMs, cpuMs, peakRssBytes, sha256 } = await runNode({ ...work, folder, place })
      const processMs = performance.now() - startedAt
      if (sha256 !== undefined && sha256 !== file.sha256) throw new Error(`${name} got the wrong bytes`)
      return { ms: callMs, cpuMs, node: { processMs, peakRssBytes } }
    },
  }
}

async function runNode(job: NodeJob): Promise<NodeResult> {
  using downloader = await NodeDownloader.start(job)
  downloader.send('go')
  const result = await downloader.done()
  await downloader.end()
  return result
}

/** The shell counts the processor time of what it starts. */
function program(name: string, script: string, args: readonly string[], { words = [] }: Place = {}): Party {
  const timed = `set -e; TIMEFORMAT='%3U %3S'; time { ${script}; }`
  const [command = 'bash', ...rest] = [...words, 'bash', '-c', timed, 'bash', ...args]
  return {
    name,
    run: async (folder) => {
      const startedAt = performance.now()
      const { status, stderr, error } = spawnSync(command, rest, { cwd: folder, encoding: 'utf8' })
      const ms = performance.now() - startedAt
      if (error || status !== 0) throw new Error(`${name} failed: ${error?.message ?? stderr}`)
      const [user = Number.NaN, system = Number.NaN] = (stderr.trim().split('\n').at(-1) ?? '').split(' ').map(Number)
      return { ms, cpuMs: (user + system) * 1000 }
    },
  }
}

/** Told to allocate nothing in advance, which on most file systems means to write the file twice. */
function aria2c(name: string, options: string, url: string): Party {
  return program(name, `aria2c --no-conf --quiet --file-allocation=none ${options} -o model.gguf "$1"`, [url])
}
