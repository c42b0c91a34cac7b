// For `import`: see index.mts.
import './in-package.mts'

export type * from './llama.ts'
export {
  LlamaBackendError,
  LlamaContextError,
  LlamaModelGate,
  ModelDownloadError,
  ModelLoadError,
} from './llama.ts'
