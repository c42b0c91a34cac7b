// A child process that runs one downloadFile, without any lock, and tells how it goes. Both sides are here: the parent
// starts it with `startDownload`; as the main module it is the child.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { type ChildEnding, endingOf, sendTo } from './child.ts'
import {
  downloadFile,
  ModelDownloadError,
  type ModelSource,
  type PublishedFile,
  resolveSource,
} from './download-internals.ts'
import { started } from './start.ts'

interface Job {
  readonly source: ModelSource
  readonly destination: string
  readonly connections?: number | undefined
}

type Outcome = { readonly model: PublishedFile } | { readonly error: { code: string; message: string } }

export interface DownloadProcess {
  readonly pid: number
  /** Resolves with what downloadFile resolved with; rejects with its error, or when the process dies first. */
  readonly outcome: Promise<PublishedFile>
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
}

const asChild = 'download-process-child'

export function startDownload(source: ModelSource, destination: string, connections?: number): DownloadProcess {
  const job: Job = { source, destination, connections }
  const stdio = ['ignore' as const, 'inherit' as const, 'inherit' as const, 'ipc' as const]
  const child = started(() => fork(fileURLToPath(import.meta.url), [asChild], { stdio }))
  const ended = endingOf(child)
  sendTo(child, job)
  const outcome = outcomeOf(child, ended)
  outcome.catch(() => {})
  return {
    pid: child.pid ?? 0,
    outcome,
    kill: async () => {
      child.kill('SIGKILL')
      await ended
    },
  }
}

async function outcomeOf(child: ChildProcess, ended: Promise<ChildEnding>): Promise<PublishedFile> {
  const message = new Promise<Outcome>((resolve) => child.once('message', (outcome) => resolve(outcome as Outcome)))
  const outcome = await Promise.race([message, ended.then(() => undefined)])
  const ending = await ended
  if (outcome === undefined) throw new Error(`the downloading process ended before its download did (${ending})`)
  if ('model' in outcome) return outcome.model
  throw Object.assign(new Error(outcome.error.message), { code: outcome.error.code })
}

if (process.argv[2] === asChild) {
  const [job] = (await once(process, 'message')) as [Job]
  let outcome: Outcome
  try {
    outcome = { model: await downloadFile({ ...job, source: resolveSource(job.source) }) }
  } catch (error) {
    const code = error instanceof ModelDownloadError ? error.code : 'unexpected'
    outcome = { error: { code, message: String(error) } }
  }
  process.send?.(outcome, () => process.disconnect())
}
