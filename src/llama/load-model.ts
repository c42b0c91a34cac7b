// Loading one model: one load of a file at a time on the machine, and one estimate-and-load per GPU.
import { basename, resolve, toNamespacedPath } from 'node:path'
import { modelPathOf } from '../download/source/local-path.ts'
import { messageOf } from '../mutex/caught.ts'
import { checkOptions, checkTimeout } from '../mutex/options.ts'
import type { OwnerInfo } from '../mutex/owner-info.ts'
import { deviceMutexNames } from './devices.ts'
import { ModelLoadError } from './errors.ts'
import type { GateSettings } from './gate-options.ts'
import { HeldLocks } from './held-locks.ts'
import { loggedReason, withErrorLog } from './log-tap.ts'
import { checkAfterDeath, findModelFile } from './model-file.ts'
import { modelMutexName } from './mutex-names.ts'
import type { Llama, LlamaModel, LlamaModelOptions } from './node-llama-cpp.ts'
import { observed } from './telemetry.ts'
import { Patience } from './wait/patience.ts'
import type { PatientLock } from './wait/progressing-wait.ts'

/**
 * node-llama-cpp's own options, of which `loadSignal` also ends the wait, and two for the wait. All other names go to
 * node-llama-cpp as they are, so a misspelt one is not noticed here.
 *
 * With `gpuLayers: 0` no device is locked, since such a load takes no memory of the GPU.
 */
export type LoadModelOptions = LlamaModelOptions & {
  /**
   * How long to wait for the file's mutex and the GPU's together, in milliseconds. It runs from the last progress of
   * the process that is loading (see the gate's `extendWhileProgressing`). Default: the gate's `loadTimeoutMs`.
   */
  readonly timeoutMs?: number | undefined
  /** Called each time the load has to wait, with the owner as far as its record can be read. */
  readonly onWait?: ((owner: OwnerInfo | undefined) => void) | undefined
}

export async function loadModel(llama: Llama, options: LoadModelOptions, settings: GateSettings): Promise<LlamaModel> {
  return new LoadCall(llama, options, settings).inTurn(options.modelPath, (turn) => turn.load())
}

/** One call that loads. Its time limit holds for all its turns together. */
export class LoadCall {
  readonly llama: Llama
  readonly settings: GateSettings
  readonly options: Omit<LlamaModelOptions, 'modelPath'>
  readonly #patience: Patience
  readonly #onWait: ((owner: OwnerInfo | undefined) => void) | undefined

  constructor(llama: Llama, options: Omit<LoadModelOptions, 'modelPath'>, settings: GateSettings) {
    checkOptions(options)
    const { timeoutMs = settings.loadTimeoutMs, onWait, ...modelOptions } = options
    checkTimeout('timeoutMs', timeoutMs)
    this.llama = llama
    this.settings = settings
    this.options = modelOptions
    this.#onWait = onWait
    const { extendWhileProgressing } = settings
    this.#patience = new Patience({ limitMs: timeoutMs, extendWhileProgressing, beginsAtZero: true })
  }

  /** Runs `work` when it is this call's turn to load that file. The locks are released when it settles. */
  async inTurn<T>(path: string, work: (turn: LoadTurn) => Promise<T>): Promise<T> {
    const { loadSignal } = this.options
    loadSignal?.throwIfAborted()
    const modelPath = modelPathOf(path, this.settings.modelsDirectory)
    const realPath = await findModelFile(modelPath)
    using locks = new HeldLocks({
      mutexOptions: this.settings.mutexOptions,
      patience: this.#patience,
      purpose: `load ${basename(modelPath)}`,
      work: `load ${realPath}`,
      limitOption: 'loadTimeoutMs',
      signal: loadSignal,
      onWait: this.#onWait,
    })
    const lock = await locks.take(modelMutexName(this.settings.prefix, realPath))
    return await work(new LoadTurn(this, { modelPath, realPath, locks, lock }))
  }
}

interface Turn {
  readonly modelPath: string
  readonly realPath: string
  readonly locks: HeldLocks
  /** The file's. */
  readonly lock: PatientLock
}

/** What may be done under the file's lock. */
export class LoadTurn {
  readonly locks: HeldLocks
  readonly #call: LoadCall
  readonly #turn: Turn

  constructor(call: LoadCall, turn: Turn) {
    this.#call = call
    this.#turn = turn
    this.locks = turn.locks
  }

  /** Call it once. */
  async load(): Promise<LlamaModel> {
    const { llama, settings, options } = this.#call
    const { modelPath, realPath, lock, locks } = this.#turn
    if (lock.abandoned) await checkAfterDeath(modelPath, locks, options.loadSignal)
    const devices = options.gpuLayers === 0 ? [] : await deviceMutexNames(llama, settings)
    for (const name of devices) await locks.take(name)
    return observed('load', realPath, lock, () => loadWithReason(llama, { ...options, modelPath }, locks))
  }
}

async function loadWithReason(llama: Llama, options: LlamaModelOptions, locks: HeldLocks): Promise<LlamaModel> {
  const load = () =>
    llama.loadModel({
      ...options,
      modelPath: loadablePath(options.modelPath),
      onLoadProgress: (progress) => {
        // Two decimals: one percent of a large model from a slow disk may take longer than others are patient.
        locks.report({ done: Math.round(progress * 10_000) / 100, total: 100, unit: '%' })
        options.onLoadProgress?.(progress)
      },
    })
  const signal = options.loadSignal
  return withErrorLog(llama, {
    load,
    signal,
    onFailure: (error, lines) =>
      error !== undefined && error === signal?.reason ? error : loadError(options.modelPath, error, lines),
  })
}

/** Node opens files with longer paths on Windows by itself; llama.cpp has to be given them with a prefix (`\\?\`). */
function loadablePath(path: string): string {
  const absolute = resolve(path)
  return absolute.length < WIN32_MAX_PATH ? path : toNamespacedPath(absolute)
}

function loadError(path: string, cause: unknown, lines: readonly string[]): ModelLoadError {
  const message = messageOf(cause)
  const reason = loggedReason(lines, REASON_MARK) ?? (message === 'Failed to load model' ? undefined : message)
  const hint = 'the reason is on stderr, where llama.cpp prints it once a process has made several Llama instances'
  return new ModelLoadError('ERR_MODEL_LOAD_FAILED', `Failed to load model ${path}: ${reason ?? hint}`, {
    path,
    reason,
    cause,
  })
}

/** With the terminating null: https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation */
const WIN32_MAX_PATH = 260
const REASON_MARK = 'error loading model:'
