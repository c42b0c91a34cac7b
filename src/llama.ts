import './mutex/dispose-symbols.ts'

export type { FetchPolicy } from './download/download.ts'
export { ModelDownloadError, type ModelDownloadErrorCode } from './download/errors.ts'
export type { RequestDispatcher } from './download/http/dispatcher.ts'
export type { Pruned } from './download/partial/prune.ts'
export type { DownloadPhase, DownloadProgress } from './download/progress.ts'
export type { PublishedFile, PublishedModel, Verification } from './download/published/verify.ts'
export type { ModelSource, ModelSourceObject } from './download/source/parse.ts'
export type { GetLlamaOptions } from './llama/backend.ts'
export type { CreateContextOptions } from './llama/create-context.ts'
export type { EnsureModelOptions, ModelProgress } from './llama/ensure-model.ts'
export {
  LlamaBackendError,
  type LlamaBackendErrorCode,
  LlamaContextError,
  type LlamaContextErrorCode,
  ModelLoadError,
  type ModelLoadErrorCode,
} from './llama/errors.ts'
export type { LlamaModelGateOptions } from './llama/gate-options.ts'
export { LlamaModelGate, type LoadOptions, type PruneOptions, type VerifyOptions } from './llama/llama-model-gate.ts'
export type { LoadModelOptions } from './llama/load-model.ts'
export type { GateEvent } from './llama/telemetry.ts'
export type { WaitingProgress } from './llama/wait/waiting-progress.ts'
