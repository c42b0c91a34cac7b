// A utility process: gets the model by the gate, which lets one process at a time download and load it. The other waits, and
// reports the owner's progress as its own.
import { LlamaModelGate } from 'os-mutex/llama'

const tell = (message) => process.parentPort.postMessage(message)
const { MODEL: source = '', MODELS_DIRECTORY: modelsDirectory } = process.env
const gate = new LlamaModelGate({ modelsDirectory })

try {
  const llama = await gate.getLlama()
  const model = await gate.load(llama, source, {
    onProgress: (progress) => {
      const { phase, done, total } = progress
      tell({ phase, done, total, owner: phase === 'waiting' ? progress.owner?.pid : undefined })
    },
    onLoadProgress: (part) => tell({ phase: 'loading', done: part, total: 1 }),
  })
  tell({ phase: 'ready', done: 1, total: 1 })
  // Stays, with the model in memory, until it is told to go.
  process.parentPort.on('message', async () => {
    await model.dispose()
    process.exit(0)
  })
} catch (error) {
  // Says what happened, to which file, who holds it, and what to do.
  tell({ phase: `failed: ${error.message}` })
}
