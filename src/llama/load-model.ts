// Loading one model: one load of a file at a time on the machine, and one estimate-and-load per GPU.
import { basename, resolve, toNamespacedPath } from 'node:path'
import type { Llama, LlamaModel, LlamaModelOptions } from 'node-llama-cpp'
import { MutexTimeoutError } from '../mutex/errors.ts'
import type { MutexLock } from '../mutex/mutex-lock.ts'
import { NamedMutex } from '../mutex/named-mutex.ts'
import { checkOptions, checkTimeout } from '../mutex/options.ts'
import type { OwnerInfo } from '../mutex/owner-info.ts'
import { ModelLoadError } from './errors.ts'
import type { GateSettings } from './gate-options.ts'
import { withErrorLog } from './log-tap.ts'
import { findModelFile, verifyModelFile } from './model-file.ts'
import { monotonicMs } from './monotonic-clock.ts'
import { deviceMutexName, modelMutexName } from './mutex-names.ts'
import { observed } from './telemetry.ts'
import { waitTimeoutError } from './wait/wait-timeout.ts'

/**
 * node-llama-cpp's own options, of which `loadSignal` also ends the wait, and two for the wait. Names that are neither
 * of the two go to node-llama-cpp as they are, so a misspelt one is not noticed here.
 */
export type LoadModelOptions = LlamaModelOptions & {
  /** How long to wait for the file's mutex and the GPU's together, in milliseconds. The gate's `loadTimeoutMs` unless told. */
  readonly timeoutMs?: number
  /** Called each time the load has to wait, with the owner as far as its record can be read. */
  readonly onWait?: (owner: OwnerInfo | undefined) => void
}

/** How often others may see a load move on: a small model reports dozens of times in a few milliseconds. */
const REPORT_INTERVAL_MS = 100

export async function loadModel(llama: Llama, options: LoadModelOptions, settings: GateSettings): Promise<LlamaModel> {
  checkOptions(options)
  const { timeoutMs = settings.loadTimeoutMs, onWait, ...modelOptions } = options
  const { modelPath, loadSignal } = modelOptions
  checkTimeout('timeoutMs', timeoutMs)
  loadSignal?.throwIfAborted()
  const realPath = await findModelFile(modelPath)

  const deadline = monotonicMs() + timeoutMs
  const locks: MutexLock[] = []
  const acquire = async (name: string): Promise<MutexLock> => {
    using mutex = new NamedMutex(name, settings.mutexOptions)
    const lock = await mutex.acquire({
      timeoutMs: Math.max(0, deadline - monotonicMs()),
      purpose: `load ${basename(modelPath)}`,
      ...(loadSignal && { signal: loadSignal }),
      ...(onWait && { onWait }),
    })
    locks.push(lock)
    return lock
  }

  try {
    const lock = await acquire(modelMutexName(settings.prefix, realPath))
    if (lock.abandoned) await verifyModelFile(realPath, loadSignal)
    for (const device of await devicesToLock(llama, settings)) await acquire(deviceMutexName(settings.prefix, device))
    return await observed('load', realPath, lock, () => loadWithReason(llama, modelOptions, lock))
  } catch (error) {
    if (!(error instanceof MutexTimeoutError)) throw error
    throw waitTimeoutError(`load ${realPath}`, 'loadTimeoutMs', { mutexName: error.mutexName, timeoutMs }, error)
  } finally {
    for (const lock of locks.reverse()) lock.release()
  }
}

/** The names of the GPUs whose memory this load may use, each once and in the order in which all processes lock them. */
async function devicesToLock(llama: Llama, { deviceLock }: GateSettings): Promise<string[]> {
  if (deviceLock === false || (deviceLock === 'auto' && llama.gpu === false)) return []
  const names = llama.gpu === false ? ['cpu'] : await llama.getGpuDeviceNames()
  return [...new Set(names)].sort()
}

async function loadWithReason(llama: Llama, options: LlamaModelOptions, lock: MutexLock): Promise<LlamaModel> {
  let reportedAt = -Infinity
  const load = () =>
    llama.loadModel({
      ...options,
      modelPath: loadablePath(options.modelPath),
      onLoadProgress: (progress) => {
        const now = monotonicMs()
        if (now - reportedAt >= REPORT_INTERVAL_MS) {
          reportedAt = now
          // May come after the load has settled and the lock is released, when nothing is reported.
          lock.report({ done: Math.round(progress * 100), total: 100, unit: '%' })
        }
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
  const message = cause instanceof Error ? cause.message : String(cause)
  const reason = loggedReason(lines) ?? (message === 'Failed to load model' ? undefined : message)
  const hint = 'the reason is on stderr, where llama.cpp prints it once a process has made several Llama instances'
  return new ModelLoadError('ERR_MODEL_LOAD_FAILED', `Failed to load model ${path}: ${reason ?? hint}`, {
    path,
    reason,
    cause,
  })
}

/** llama.cpp puts the reason in its own line; lines before and after only say where it happened. */
function loggedReason(lines: readonly string[]): string | undefined {
  const marked = lines.findLast((line) => line.includes(REASON_MARK))
  return marked?.slice(marked.indexOf(REASON_MARK) + REASON_MARK.length).trim() ?? lines.at(-1)
}

/** With the terminating null: https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation */
const WIN32_MAX_PATH = 260
const REASON_MARK = 'error loading model:'
