// One participant: a process or a worker thread that wants to use the model. Without its reports to the demo it would be
// `gate.load` and a completion, as in any program that uses the gate.
import { subscribe } from 'node:diagnostics_channel'
import { isAbsolute } from 'node:path'
import { isMainThread, parentPort, threadId } from 'node:worker_threads'
import { LlamaCompletion, LlamaLogLevel, type LlamaModel } from 'node-llama-cpp'
import type { AbandonedEvent, AcquireEvent } from 'os-mutex'
import { type GateEvent, LlamaModelGate } from 'os-mutex/llama'
import { freezeSelf } from '../../test/support/gate-freeze.ts'
import { type Briefing, monotonicMs, type Order, type Unstamped } from './protocol.ts'

const PROMPT = 'Once upon a time'
const MAX_TOKENS = 16

const briefing = JSON.parse(process.argv[2] ?? '') as Briefing
const gate = new LlamaModelGate(briefing.gate)

function report(what: Unstamped): void {
  const message = { ...what, atMs: monotonicMs() }
  if (isMainThread) process.send?.(message)
  else parentPort?.postMessage(message)
}

// The models folder's own lock, whose name is a path, goes with the machine's for the download: one of the two tells it all.
const isOfMachine = (mutex: string) => !isAbsolute(mutex)

// These listeners run synchronously, while the lock is held: what they stamp is the owner's own word.
subscribe('os-mutex:acquire', (event) => {
  const { mutex, waitedMs } = event as AcquireEvent
  if (isOfMachine(mutex)) report({ is: 'acquired', mutex, waitedMs })
})
subscribe('os-mutex:abandoned', (event) => {
  const abandoned = event as AbandonedEvent
  if (isOfMachine(abandoned.mutex)) report({ is: 'abandonment', ...abandoned })
})
subscribe('os-mutex:load', (event) => {
  report({ is: (event as GateEvent).event === 'start' ? 'load-start' : 'load-end' })
})

const llama = await gate.getLlama({
  gpu: false,
  build: 'never',
  skipDownload: true,
  progressLogs: false,
  maxThreads: 1,
  logLevel: LlamaLogLevel.error,
})

function obey(order: Order): void {
  if (order === 'quit') process.exit()
  if (order === 'freeze') {
    report({ is: 'frozen' })
    freezeSelf()
  } else {
    perform().catch((error: Error & { code?: string }) =>
      report({ is: 'failed', message: `${error.code ?? error.name}: ${error.message}` }),
    )
  }
}

if (isMainThread) process.on('message', obey).once('disconnect', () => process.exit())
else parentPort?.on('message', obey)
report({ is: 'ready', pid: process.pid, threadId })

async function perform(): Promise<void> {
  const model = await gate.load(llama, briefing.source, {
    // So that the server's book tells of each byte whose it was: answers of several connections would overlap where one is cut short.
    connections: 1,
    useMmap: briefing.useMmap,
    onProgress: (progress) => report({ is: 'progress', progress }),
    onWait: (owner) => report({ is: 'load-wait', ...(owner && { owner }) }),
    onLoadProgress: (fraction) => report({ is: 'load-progress', fraction }),
  })
  await generate(model)
  const { path, sha256 = '' } = await gate.ensureModel(briefing.source)
  report({ is: 'done', path, sha256 })
}

async function generate(model: LlamaModel): Promise<void> {
  try {
    const context = await model.createContext({ contextSize: 64, batchSize: 64, threads: 1 })
    const completion = new LlamaCompletion({ contextSequence: context.getSequence() })
    await completion.generateCompletion(PROMPT, {
      maxTokens: MAX_TOKENS,
      onToken: (tokens) => {
        for (const token of tokens) report({ is: 'token', text: model.detokenize([token]) })
      },
    })
  } finally {
    await model.dispose()
  }
}
