// One class per thing that can fail around llama.cpp; `code` is the stable part, the message is for people.

export type ModelLoadErrorCode =
  | 'ERR_MODEL_NOT_FOUND'
  | 'ERR_MODEL_NOT_READABLE'
  | 'ERR_MODEL_NOT_GGUF'
  | 'ERR_MODEL_DAMAGED'
  | 'ERR_MODEL_REPLACED'
  | 'ERR_MODEL_LOAD_FAILED'

/**
 * A model could not be loaded. `cause` is the error of the file system or of node-llama-cpp. `code` says why:
 *
 * - `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_NOT_READABLE`, `ERR_MODEL_NOT_GGUF`: the file is not there, or is no model.
 * - `ERR_MODEL_DAMAGED`: its last loader died, and the file is not as it was published.
 * - `ERR_MODEL_REPLACED`: `load` found another file under the model's name, again and again.
 * - `ERR_MODEL_LOAD_FAILED`: llama.cpp refused it; see `reason`.
 */
export class ModelLoadError extends Error {
  override readonly name = 'ModelLoadError'
  readonly code: ModelLoadErrorCode
  /** The model's file, as the caller named it. */
  readonly path: string
  /** Why, in llama.cpp's own words, where it said so. */
  readonly reason: string | undefined

  constructor(
    code: ModelLoadErrorCode,
    message: string,
    details: { path: string; reason?: string | undefined; cause?: unknown },
  ) {
    super(message, { cause: details.cause })
    this.code = code
    this.path = details.path
    this.reason = details.reason
  }
}

export type LlamaContextErrorCode = 'ERR_LLAMA_CONTEXT_NO_MEMORY' | 'ERR_LLAMA_CONTEXT_FAILED'

/**
 * A context could not be created. `cause` is the error of node-llama-cpp. `code` says why:
 *
 * - `ERR_LLAMA_CONTEXT_NO_MEMORY`: it would not fit into the memory that is free.
 * - `ERR_LLAMA_CONTEXT_FAILED`: anything else; see `reason`.
 */
export class LlamaContextError extends Error {
  override readonly name = 'LlamaContextError'
  readonly code: LlamaContextErrorCode
  /** Why, in the words of llama.cpp or node-llama-cpp. */
  readonly reason: string

  constructor(code: LlamaContextErrorCode, message: string, details: { reason: string; cause: unknown }) {
    super(message, { cause: details.cause })
    this.code = code
    this.reason = details.reason
  }
}

export type LlamaBackendErrorCode = 'ERR_LLAMA_NOT_INSTALLED' | 'ERR_LLAMA_IMPORT_FAILED' | 'ERR_LLAMA_BACKEND_FAILED'

/**
 * llama.cpp itself could not be had. `cause` is the error of the module loader or of node-llama-cpp. `code` says why:
 *
 * - `ERR_LLAMA_NOT_INSTALLED`: there is no package node-llama-cpp.
 * - `ERR_LLAMA_IMPORT_FAILED`: it could not be imported, as in Jest's default mode, or the option `module` failed.
 * - `ERR_LLAMA_BACKEND_FAILED`: node-llama-cpp found or built nothing that runs.
 */
export class LlamaBackendError extends Error {
  override readonly name = 'LlamaBackendError'
  readonly code: LlamaBackendErrorCode

  constructor(code: LlamaBackendErrorCode, message: string, options: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
