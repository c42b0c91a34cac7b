// Who downloads one file at full speed, each in its own way: a program of the system, or a Node process.
import { execFileSync } from 'node:child_process'
import type { Nginx, NginxFile } from './nginx.ts'
import { NodeDownloader, type NodeJob, type NodeParty, type NodeResult } from './node-downloader.ts'

export interface Timing {
  /** From the call to its promise's resolution; of a program, which has no such call, from its start to its end. */
  readonly ms: number
  /** Of a Node process: from its start to its end, and what `NodeResult` says. */
  readonly node?: { readonly processMs: number; readonly peakRssBytes: number }
}

export interface Party {
  readonly name: string
  /** How many times as fast as it we want to be, at least. */
  readonly target?: number
  /** Downloads into an empty folder. */
  run(folder: string): Promise<Timing>
}

export const ourName = 'os-mutex'

export function fullSpeedParties(server: Nginx, file: NginxFile): Party[] {
  const careful = 'curl -qsSf -o model.gguf "$1"; sync model.gguf; sha256sum model.gguf'
  return [
    nodeParty(ourName, { party: 'downloadFile', url: server.url }, file),
    { ...program('curl, which checks nothing', 'curl', ['-qsSf', '-o', 'model.gguf', server.url]), target: 0.9 },
    program('curl; sync; sha256sum', 'sh', ['-ec', careful, 'sh', server.url]),
    aria2c('aria2c -x1', ['-x1'], server.url),
    { ...nodeParty('node-llama-cpp', { party: 'node-llama-cpp', url: server.url }, file), target: 1 },
    { ...nodeParty('@huggingface/hub', { party: '@huggingface/hub', url: server.origin }, file), target: 1 },
  ]
}

/** Where each connection is limited, and several are faster than one. */
export function limitedParties(server: Nginx, file: NginxFile): Party[] {
  return [
    nodeParty(ourName, { party: 'downloadFile', url: server.limitedUrl }, file),
    { ...aria2c('aria2c -x8 -s8 -k1M', ['-x8', '-s8', '-k1M'], server.limitedUrl), target: 1 },
  ]
}

function nodeParty(name: string, what: { readonly party: NodeParty; readonly url: string }, file: NginxFile): Party {
  return {
    name,
    run: async (folder) => {
      const startedAt = performance.now()
      const { callMs, peakRssBytes, sha256 } = await runNode({ ...what, folder })
      const processMs = performance.now() - startedAt
      if (sha256 !== undefined && sha256 !== file.sha256) throw new Error(`${name} got the wrong bytes`)
      return { ms: callMs, node: { processMs, peakRssBytes } }
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

function program(name: string, command: string, args: readonly string[]): Party {
  return {
    name,
    run: async (folder) => {
      const startedAt = performance.now()
      execFileSync(command, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] })
      return { ms: performance.now() - startedAt }
    },
  }
}

/** Told to allocate nothing in advance, which on most file systems means to write the file twice. */
function aria2c(name: string, args: readonly string[], url: string): Party {
  return program(name, 'aria2c', ['--no-conf', '--quiet', '--file-allocation=none', ...args, '-o', 'model.gguf', url])
}
