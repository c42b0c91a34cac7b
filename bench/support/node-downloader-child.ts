// The process that node-downloader.ts starts.
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { ModelProgress } from 'os-mutex/llama'
import { hubFile } from './nginx.ts'
import type { ChildMessage, NodeJob, NodeResult, ParentMessage } from './node-downloader.ts'

type Download = () => Promise<Pick<NodeResult, 'sha256' | 'waited'>>

const job = JSON.parse(process.argv[2] ?? '') as NodeJob
let hasBegun = false

/** Imports what the party needs, which is not timed. */
async function prepare({ party, url, folder, connections }: NodeJob): Promise<Download> {
  switch (party) {
    case 'gate': {
      const { LlamaModelGate } = await import('os-mutex/llama')
      const gate = new LlamaModelGate({ modelsDirectory: folder, mutexDirectory: folder })
      return async () => {
        let waited = false
        const onProgress = ({ phase }: ModelProgress) => {
          if (phase === 'downloading') begin()
          if (phase === 'waiting') waited = true
        }
        const { sha256 } = await gate.ensureModel(url, {
          onProgress,
          ...(connections !== undefined && { connections }),
        })
        return { sha256, waited }
      }
    }
    case 'node-llama-cpp': {
      const { createModelDownloader } = await import('node-llama-cpp')
      return async () => {
        const downloader = await createModelDownloader({ modelUri: url, dirPath: folder })
        await downloader.download()
        return { waited: false }
      }
    }
    case '@huggingface/hub': {
      const { downloadFileToCacheDir } = await import('@huggingface/hub')
      return async () => {
        await downloadFileToCacheDir({ ...hubFile, hubUrl: url, cacheDir: folder })
        return { waited: false }
      }
    }
    case 'idle':
      await import('os-mutex/llama')
      return async () => {
        await told('stop')
        return { waited: false }
      }
  }
}

async function told(wanted: ParentMessage): Promise<void> {
  for (;;) {
    const [message] = await once(process, 'message')
    if (message === wanted) return
  }
}

function tell(message: ChildMessage): void {
  process.send?.(message)
}

function begin(): void {
  if (!hasBegun) tell({ is: 'begun' })
  hasBegun = true
}

/** Of this process, from the kernel: what it has in memory now, and the most it ever had. */
function memory(): { nowBytes: number; peakBytes: number } {
  const status = readFileSync('/proc/self/status', 'utf8')
  const bytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024
  return { nowBytes: bytes('VmRSS'), peakBytes: bytes('VmHWM') }
}

try {
  const download = await prepare(job)
  const go = told('go')
  tell({ is: 'ready' })
  await go
  // The peak starts anew: importing has one of its own. https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html
  writeFileSync('/proc/self/clear_refs', '5')
  const before = memory()
  const delay = monitorEventLoopDelay({ resolution: 1 })
  if (job.watchEventLoop) delay.enable()
  const [startedAt, cpuBefore] = [performance.now(), process.cpuUsage()]
  const result = await download()
  const callMs = performance.now() - startedAt
  const cpu = process.cpuUsage(cpuBefore)
  delay.disable()
  const peakRssBytes = memory().peakBytes - before.nowBytes
  const longestStallMs = job.watchEventLoop ? delay.max / 1e6 : 0
  tell({
    is: 'done',
    result: { ...result, callMs, cpuMs: (cpu.user + cpu.system) / 1000, peakRssBytes, longestStallMs },
  })
} catch (error) {
  tell({ is: 'failed', message: error instanceof Error ? (error.stack ?? error.message) : String(error) })
}
// Until the parent is through with it: nothing else keeps this process.
await once(process, 'disconnect')
