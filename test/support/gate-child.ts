// A process with one gate, which does what its parent (gate-process.ts) asks and tells all that happens.
import { subscribe } from 'node:diagnostics_channel'
import { getLlama, LlamaCompletion, type LlamaModel } from 'node-llama-cpp'
import { type GateEvent, LlamaModelGate, type LlamaModelGateOptions } from 'os-mutex/llama'
import type { ChildMessage, ChildRequest } from './gate-process.ts'

const gate = new LlamaModelGate(JSON.parse(process.argv[2] ?? '{}') as LlamaModelGateOptions)
const controllers = new Map<number, AbortController>()
let llama: ReturnType<typeof getLlama> | undefined

process.on('message', (request: ChildRequest) => {
  if (request.do === 'abort') controllers.get(request.id)?.abort(new Error('aborted by the test'))
  else void perform(request)
})
process.once('disconnect', () => process.exit())
subscribe('os-mutex:load', (event) =>
  tell({ id: 0, is: 'load', event: event as GateEvent, atMs: Number(process.hrtime.bigint()) / 1e6 }),
)
tell({ id: 0, is: 'ready' })

async function perform(request: Exclude<ChildRequest, { do: 'abort' }>): Promise<void> {
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

async function run(request: Exclude<ChildRequest, { do: 'abort' }>, signal: AbortSignal): Promise<unknown> {
  const { id } = request
  switch (request.do) {
    case 'ensureModel':
      return gate.ensureModel(request.source, {
        ...request.options,
        signal,
        onProgress: (progress) => tell({ id, is: 'progress', progress }),
      })
    case 'loadModel': {
      const model = await gate.loadModel(await cpuLlama(), {
        ...request.options,
        loadSignal: signal,
        onWait: (owner) => tell({ id, is: 'wait', owner }),
        onLoadProgress: (fraction) => tell({ id, is: 'load-progress', fraction }),
      })
      return generate(model)
    }
    case 'load': {
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

function cpuLlama(): ReturnType<typeof getLlama> {
  llama ??= getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    maxThreads: 1,
    logger: () => {},
  })
  return llama
}

function tell(message: ChildMessage): void {
  process.send?.(message)
}
