// A process with one gate, which does what its parent (gate-process.ts) asks and tells all that happens.
import { subscribe } from 'node:diagnostics_channel'
import type { Llama, LlamaModel } from 'node-llama-cpp'
import { type GateEvent, LlamaModelGate, type LlamaModelGateOptions } from 'os-mutex/llama'
import { freezeSelf } from './gate-freeze.ts'
import type { ChildMessage, ChildRequest, LoadStage } from './gate-process.ts'
import { machineMs } from './runtimes.ts'

type Work = Exclude<ChildRequest, { do: 'abort' | 'freeze' }>

const gate = new LlamaModelGate(JSON.parse(process.argv[2] ?? '{}') as LlamaModelGateOptions)
const controllers = new Map<number, AbortController>()
let llama: Promise<Llama> | undefined
let freezeAt: LoadStage | undefined

process.on('message', (request: ChildRequest) => {
  if (request.do === 'abort') controllers.get(request.id)?.abort(new Error('aborted by the test'))
  else if (request.do === 'freeze') freeze()
  else void perform(request)
})
process.once('disconnect', () => process.exit())
subscribe('os-mutex:load', (event) => {
  tell({ id: 0, is: 'load', event: event as GateEvent, atMs: machineMs() })
  freezeIfDue('load')
})
tell({ id: 0, is: 'ready' })

async function perform(request: Work): Promise<void> {
  const { id } = request
  const controller = new AbortController()
  controllers.set(id, controller)
  try {
    tell({ id, is: 'done', result: await run(request, controller.signal) })
  } catch (error) {
    const { name, message, code, path, reason, owner } = error as Error & Record<string, unknown>
    tell({ id, is: 'failed', error: { name, message, code, path, reason, owner } })
  } finally {
    controllers.delete(id)
  }
}

async function run(request: Work, signal: AbortSignal): Promise<unknown> {
  const { id } = request
  switch (request.do) {
    case 'ensureModel':
      return gate.ensureModel(request.source, {
        ...request.options,
        signal,
        onProgress: (progress) => tell({ id, is: 'progress', progress }),
      })
    case 'loadModel': {
      freezeAt = request.freezeAt
      const model = await gate.loadModel(await cpuLlama(), {
        ...request.options,
        loadSignal: signal,
        onWait: (owner) => tell({ id, is: 'wait', owner }),
        onLoadProgress: (fraction) => {
          tell({ id, is: 'load-progress', fraction })
          freezeIfDue('load-progress')
        },
      })
      return generate(model)
    }
    case 'load': {
      freezeAt = request.freezeAt
      const model = await gate.load(await cpuLlama(), request.source, {
        ...request.options,
        signal,
        onProgress: (progress) => tell({ id, is: 'progress', progress }),
      })
      return generate(model)
    }
    case 'getLlama':
      return {
        gpu: (await gate.getLlama({ ...request.options, signal, onWait: (owner) => tell({ id, is: 'wait', owner }) }))
          .gpu,
      }
  }
}

/** Proves that the model works, and gives its memory back. */
async function generate(model: LlamaModel): Promise<{ tokens: number }> {
  const { LlamaCompletion } = await import('node-llama-cpp')
  try {
    const context = await model.createContext({ contextSize: 64, batchSize: 64, threads: 1 })
    const contextSequence = context.getSequence()
    const completion = new LlamaCompletion({ contextSequence })
    await completion.generateCompletion('hello', { maxTokens: 4 })
    return { tokens: contextSequence.nextTokenIndex }
  } finally {
    await model.dispose()
  }
}

/** Only those who load need node-llama-cpp, which takes its time to be imported. */
function cpuLlama(): Promise<Llama> {
  llama ??= import('node-llama-cpp').then(({ getLlama }) =>
    getLlama({
      gpu: false,
      build: 'never',
      skipDownload: true,
      progressLogs: false,
      maxThreads: 1,
      logger: () => {},
    }),
  )
  return llama
}

function freezeIfDue(stage: LoadStage): void {
  if (freezeAt !== stage) return
  freezeAt = undefined
  freeze()
}

function freeze(): void {
  tell({ id: 0, is: 'frozen' })
  freezeSelf()
}

function tell(message: ChildMessage): void {
  process.send?.(message)
}
