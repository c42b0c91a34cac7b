// A Llama for tests that have to see what a load is given, or to say how long it takes: real ones tell neither.
import type { Llama, LlamaModel, LlamaModelOptions } from 'node-llama-cpp'

export interface StubLlamaOptions {
  /** One load. Resolves with what the model is to have beside its `dispose`. */
  readonly load: (options: LlamaModelOptions) => Promise<object>
  /** Default: no GPU. */
  readonly gpus?: readonly string[]
}

export class StubLlama {
  /** Models that were loaded and are not disposed of. */
  models = 0
  loads = 0
  readonly llama: Llama

  constructor({ load, gpus }: StubLlamaOptions) {
    this.llama = {
      gpu: gpus === undefined ? false : 'vulkan',
      logLevel: 'warn',
      logger: () => {},
      disposed: false,
      getGpuDeviceNames: async () => gpus,
      loadModel: async (options: LlamaModelOptions): Promise<LlamaModel> => {
        this.loads++
        const model = await load(options)
        this.models++
        const dispose = async () => void this.models--
        return { ...model, dispose } as unknown as LlamaModel
      },
    } as unknown as Llama
  }
}
