// One process of the check. It says what device it has, waits for "go", loads, creates contexts, makes a token with the
// first of them, reports how each step went, and keeps all of it until "end".
import { once } from 'node:events'
import { getLlama, LlamaCompletion } from 'node-llama-cpp'
import { LlamaModelGate } from 'os-mutex/llama'

const { way, modelPath, contexts, contextBytes, padding, locks } = JSON.parse(process.argv[2])
const say = (message) => process.send(message)
process.once('disconnect', () => process.exit())
process.on('message', (word) => word === 'end' && process.exit())

const gate = new LlamaModelGate({ prefix: 'gpu-check', mutexDirectory: locks, loadTimeoutMs: Number.POSITIVE_INFINITY })
const isGated = way === 'with the gate'
const llamaOptions = { gpu: 'vulkan', build: 'never', progressLogs: false, vramPadding: padding }
const llama = await (isGated ? gate.getLlama(llamaOptions) : getLlama(llamaOptions)).catch(async ({ message }) => {
  await new Promise((resolve) => process.send({ kind: 'device', error: message }, resolve))
  process.exit(1)
})
const { total, free } = await llama.getVramState()
say({ kind: 'device', names: await llama.getGpuDeviceNames(), total, free, padding: llama.vramPaddingSize })
await once(process, 'message')
await work()
say({ kind: 'done' })

async function work() {
  // All layers on the GPU: with 'auto' the load would take what is left, and there would be no limit to reach.
  const modelOptions = { modelPath, gpuLayers: 'max' }
  const model = await attempt('load', () =>
    isGated ? gate.loadModel(llama, modelOptions) : llama.loadModel(modelOptions),
  )
  if (model === undefined) return

  const { block_count: layers, embedding_length: width } = model.fileInfo.metadata.llama
  const bytesPerToken = layers * width * 2 * 2 // a key and a value, each of two bytes
  const contextOptions = { contextSize: Math.floor(contextBytes / bytesPerToken), batchSize: 8 }
  const created = []
  for (let index = 0; index < contexts; index++) {
    const create = () => (isGated ? gate.createContext(model, contextOptions) : model.createContext(contextOptions))
    created.push(await attempt('context', create))
  }
  const context = created.find((each) => each !== undefined)
  if (context === undefined) return
  const completion = new LlamaCompletion({ contextSequence: context.getSequence() })
  await attempt('token', () => completion.generateCompletion('hello', { maxTokens: 1 }))
}

async function attempt(step, run) {
  say({ kind: 'begins', step })
  const startedAt = performance.now()
  const result = (outcome, message) =>
    say({ kind: 'result', step, outcome, ms: performance.now() - startedAt, message })
  try {
    const value = await run()
    result('ok')
    return value
  } catch (error) {
    result(outcomeOf(error), error.message)
    return undefined
  }
}

/** Whose refusal it is. The gate's errors have node-llama-cpp's as their cause. */
function outcomeOf(error) {
  const causes = []
  for (let each = error; each instanceof Error; each = each.cause) causes.push(each)
  if (causes.some((each) => each.constructor.name === 'InsufficientMemoryError')) return 'estimate'
  // What node-llama-cpp says when llama.cpp has given up, and what Vulkan does.
  const isDriver = /Failed to (load model|create context)|OutOf\w*Memory|DeviceLost|Eval has failed/i
  return causes.some(({ message }) => isDriver.test(message)) ? 'driver' : 'other'
}
