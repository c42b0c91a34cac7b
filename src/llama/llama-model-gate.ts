import { realpath } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { type Pruned, pruneFolder } from '../download/partial/prune.ts'
import { pruneSuperseded } from '../download/published/superseded.ts'
import { type PublishedModel, type Verification, verifyPublished } from '../download/published/verify.ts'
import { partsOf } from '../download/source/file-name.ts'
import type { ModelSource } from '../download/source/parse.ts'
import { NamedMutex } from '../mutex/named-mutex.ts'
import { checkKnown, checkOptions, checkTimeout, invalidArgument, namesOf } from '../mutex/options.ts'
import { type GetLlamaOptions, getLlama } from './backend.ts'
import { type CreateContextOptions, createContext } from './create-context.ts'
import { type EnsureModelOptions, ensureModel } from './ensure-model.ts'
import { type GateSettings, type LlamaModelGateOptions, resolveSettings } from './gate-options.ts'
import { LoadCall, type LoadModelOptions, loadModel } from './load-model.ts'
import { loadEnsured } from './load-source.ts'
import { modelMutexName } from './mutex-names.ts'
import type { Llama, LlamaContext, LlamaModel } from './node-llama-cpp.ts'

export interface VerifyOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the bytes that are hashed of the file at hand, some hundred times for a large one. */
  readonly onBytes?: ((done: number) => void) | undefined
}

export interface PruneOptions {
  /** How long nothing may have touched a file that is removed, in milliseconds, 0 or more. Default: `3_600_000`. */
  readonly olderThanMs?: number | undefined
}

const VERIFY = namesOf<VerifyOptions>({ signal: true, onBytes: true })
const PRUNE = namesOf<PruneOptions>({ olderThanMs: true })

/**
 * Options of both steps. A single signal, `signal` or `loadSignal`, ends whichever step is running. Names that are none
 * of ours go to node-llama-cpp as they are, so a misspelt one is not noticed here.
 */
export type LoadOptions = Omit<LoadModelOptions, 'modelPath' | 'timeoutMs'> &
  Omit<EnsureModelOptions, 'timeoutMs'> & {
    /** As the gate's option of this name, for this call. */
    readonly downloadTimeoutMs?: number
    /** As the gate's option of this name, for this call. */
    readonly loadTimeoutMs?: number
  }

/**
 * Lets any number of processes and threads share one folder of GGUF models: one downloads a file while the others wait and see
 * its progress, one loads it at a time, and when an owner dies in the middle the next one takes over and repairs.
 */
export class LlamaModelGate {
  readonly #settings: GateSettings

  /**
   * Touches nothing on disk.
   * @throws `TypeError` `ERR_MUTEX_INVALID_ARGUMENT`: an unknown option, or a time limit that is no number of milliseconds
   */
  constructor(options: LlamaModelGateOptions = {}) {
    this.#settings = resolveSettings(options)
  }

  /** The folder that models are published in. */
  get modelsDirectory(): string {
    return this.#settings.modelsDirectory
  }

  /**
   * Resolves with the verified file of `source`, downloading it if need be. A file that is there already is answered without
   * a lock or a request.
   *
   * Rejects with a `ModelDownloadError` (see its codes), with a `MutexTimeoutError` (`ERR_MUTEX_TIMEOUT`) naming the
   * process whose download stood still for the time limit, with `signal.reason`, or with a `TypeError`
   * (`ERR_MUTEX_INVALID_ARGUMENT`) for options that are unknown or wrong. An unknown name in a source object is a
   * `ModelDownloadError` (`ERR_MODEL_INVALID_SOURCE`).
   */
  ensureModel(source: ModelSource, options: EnsureModelOptions = {}): Promise<PublishedModel> {
    return ensureModel(source, options, this.#settings)
  }

  /**
   * Hashes a model file again and compares it with what was published, or with nothing if it is none of ours. Of a split model all
   * parts are looked at, up to the first that is not intact. Changes nothing. A relative path is one in `modelsDirectory`.
   *
   * Rejects with a `ModelDownloadError` (`ERR_MODEL_FILE_SYSTEM`) when the file cannot be read, with `signal.reason`,
   * or with a `TypeError` (`ERR_MUTEX_INVALID_ARGUMENT`) for an unknown option.
   */
  async verify(path: string, options: VerifyOptions = {}): Promise<Verification> {
    checkOptions(options)
    checkKnown(options, VERIFY, 'verify()')
    let verification: Verification = { verdict: 'absent' }
    for (const part of partsOf(resolve(this.#settings.modelsDirectory, path))) {
      verification = await verifyPublished(part, options)
      if (verification.verdict !== 'intact') break
    }
    return verification
  }

  /**
   * Removes partials that no living process claims, rejected files and forgotten drafts from `modelsDirectory`, where they are older
   * than `olderThanMs` milliseconds, and versions of split models that were superseded longer ago than that. Default:
   * `3_600_000`, an hour. Returns what is gone.
   *
   * Rejects with a `ModelDownloadError` (`ERR_MODEL_FILE_SYSTEM`) when the folder cannot be listed, or with a
   * `TypeError` (`ERR_MUTEX_INVALID_ARGUMENT`) for an option that is unknown or wrong.
   */
  async prune(options: PruneOptions = {}): Promise<Pruned[]> {
    checkOptions(options)
    checkKnown(options, PRUNE, 'prune()')
    const { olderThanMs = 3_600_000 } = options
    checkTimeout('olderThanMs', olderThanMs)
    const { modelsDirectory } = this.#settings
    const pruned = await pruneFolder(modelsDirectory, olderThanMs)
    const guard = (path: string, remove: () => Promise<void>) => unlessLoading(path, remove, this.#settings)
    return [...pruned, ...(await pruneSuperseded(modelsDirectory, olderThanMs, guard))]
  }

  /**
   * `llama.loadModel(options)` when it is this process's turn to load that file. The locks are released when the load
   * settles.
   *
   * Rejects with a `ModelLoadError` (`ERR_MODEL_NOT_FOUND`, `ERR_MODEL_NOT_READABLE`, `ERR_MODEL_NOT_GGUF`,
   * `ERR_MODEL_DAMAGED`, `ERR_MODEL_LOAD_FAILED`), with a `MutexTimeoutError` (`ERR_MUTEX_TIMEOUT`) naming the process
   * that holds the file or the GPU, or with `loadSignal.reason`.
   */
  loadModel(llama: Llama, options: LoadModelOptions): Promise<LlamaModel> {
    return loadModel(llama, options, this.#settings)
  }

  /**
   * `ensureModel`, then `loadModel` of its file. The download's lock is released in between. What is loaded is what
   * `ensureModel` answered: the files of all parts are compared under the load's lock and again after the load, and
   * where another program has put another file there, both steps are done again.
   *
   * Rejects as they do, and with a `ModelLoadError` `ERR_MODEL_REPLACED` when that goes on.
   */
  async load(llama: Llama, source: ModelSource, options: LoadOptions = {}): Promise<LlamaModel> {
    checkOptions(options)
    // It is a limit of ours, but here there are two, and it would reach the load's only.
    if ((options as EnsureModelOptions).timeoutMs !== undefined) {
      throw invalidArgument('load() has no option "timeoutMs". Did you mean "downloadTimeoutMs" or "loadTimeoutMs"?')
    }
    const { onProgress, fetch, mirrorTo, replace, connections, keepPartial, dispatcher, ...others } = options
    const { downloadTimeoutMs, loadTimeoutMs, ...rest } = others
    const { signal = rest.loadSignal, ...modelOptions } = rest
    const loadSignal = rest.loadSignal ?? signal
    const ensureOptions: EnsureModelOptions = {
      ...(onProgress && { onProgress }),
      ...(signal && { signal }),
      ...(fetch && { fetch }),
      ...(mirrorTo !== undefined && { mirrorTo }),
      ...(replace !== undefined && { replace }),
      ...(connections !== undefined && { connections }),
      ...(keepPartial !== undefined && { keepPartial }),
      ...(dispatcher && { dispatcher }),
      ...(downloadTimeoutMs !== undefined && { timeoutMs: downloadTimeoutMs }),
    }
    const loadOptions = {
      ...modelOptions,
      ...(loadSignal && { loadSignal }),
      ...(loadTimeoutMs !== undefined && { timeoutMs: loadTimeoutMs }),
    }
    const call = new LoadCall(llama, loadOptions, this.#settings)
    return loadEnsured(call, () => this.ensureModel(source, ensureOptions))
  }

  /**
   * `model.createContext(options)` when it is this process's turn on the GPU. The context's KV cache is where GPUs run
   * out of memory, so estimating what is free and taking it are one step on the machine, as for a load, under the same
   * lock. The lock is released when the creation settles. Without a GPU there is no wait (see the gate's `deviceLock`).
   *
   * @throws {LlamaContextError} `ERR_LLAMA_CONTEXT_NO_MEMORY`, `ERR_LLAMA_CONTEXT_FAILED`
   * @throws {MutexTimeoutError} `ERR_MUTEX_TIMEOUT`, naming the process that holds the GPU
   * @throws `createSignal.reason`; `TypeError` `ERR_MUTEX_INVALID_ARGUMENT` for a wrong `timeoutMs`
   */
  createContext(model: LlamaModel, options: CreateContextOptions = {}): Promise<LlamaContext> {
    return createContext(model, options, this.#settings)
  }

  /**
   * node-llama-cpp's `getLlama(options)` with one build or clone of llama.cpp at a time on the machine. Binaries that
   * exist are used without a lock. While the wanted binary is being built, by a gate or by node-llama-cpp alone, the
   * call waits for that build, within `timeoutMs`, until `signal`, and reports it to `onWait`. With `gpu: 'auto'` it
   * waits for the build of any GPU's binary.
   *
   * @throws {LlamaBackendError} `ERR_LLAMA_NOT_INSTALLED`, `ERR_LLAMA_IMPORT_FAILED`, `ERR_LLAMA_BACKEND_FAILED`
   * @throws {MutexTimeoutError} `ERR_MUTEX_TIMEOUT`, naming the process that builds, where it has a gate
   * @throws `signal.reason`; `TypeError` `ERR_MUTEX_INVALID_ARGUMENT` for a wrong `timeoutMs` or `module`
   */
  getLlama(options: GetLlamaOptions = {}): Promise<Llama> {
    return getLlama(options, this.#settings)
  }
}

/** Runs `remove` unless somebody is loading the model at `path`, and keeps others from beginning with it meanwhile. */
async function unlessLoading(
  path: string,
  remove: () => Promise<void>,
  { prefix, mutexOptions }: GateSettings,
): Promise<void> {
  const real = await realpath(path).catch(() => undefined)
  if (real === undefined) return
  using mutex = new NamedMutex(modelMutexName(prefix, real), mutexOptions)
  const lock = mutex.tryAcquire({ purpose: `remove ${basename(path)}` })
  if (lock === null) return
  try {
    await remove()
  } finally {
    lock.release()
  }
}
