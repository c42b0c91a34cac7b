// The program of a worker thread that gets one model through a gate.
import { workerData } from 'node:worker_threads'
import { LlamaModelGate, type LlamaModelGateOptions } from 'os-mutex/llama'

const { options, url } = workerData as { readonly options: LlamaModelGateOptions; readonly url: string }
await new LlamaModelGate(options).ensureModel(url)
