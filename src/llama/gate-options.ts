import { join, resolve } from 'node:path'
import { homeFolder } from '../download/disk/home-folder.ts'
import { defaultLimits, defaultSpeedLimit } from '../download/file.ts'
import type { TimeLimits } from '../download/http/exchange.ts'
import type { SpeedLimit } from '../download/http/low-speed.ts'
import type { NamedMutexOptions } from '../mutex/named-mutex.ts'
import { checkKnown, checkOptions, checkTimeout, invalidArgument, namesOf } from '../mutex/options.ts'

export interface LlamaModelGateOptions {
  /**
   * The folder of the models. Processes that shall share models must name the same folder.
   * Unless told, `~/.node-llama-cpp/models`: where node-llama-cpp itself keeps them (`node-llama-cpp pull`,
   * `resolveModelFile`), so that what was downloaded before is found and not downloaded again.
   */
  readonly modelsDirectory?: string | undefined
  /**
   * How long `loadModel` and `createContext` wait for their turn, in milliseconds. It runs from the last progress of
   * the process that is loading. `0` tries once, `Infinity` waits for ever. The load itself has no limit. Default:
   * `120_000`.
   */
  readonly loadTimeoutMs?: number | undefined
  /**
   * How long `ensureModel` waits for another process's download, in milliseconds; `300_000` unless told. It runs from
   * that process's last progress. `0` tries once, `Infinity` waits for ever.
   */
  readonly downloadTimeoutMs?: number | undefined
  /**
   * `false` makes `downloadTimeoutMs` and `loadTimeoutMs` run from the start of the wait, even if the owner makes
   * progress. A new owner alone does not start them again. Default: `true`.
   */
  readonly extendWhileProgressing?: boolean | undefined
  /** Begins the names of the gate's mutexes: gates with different prefixes do not know of each other. `os-mutex` unless told. */
  readonly prefix?: string | undefined
  /**
   * Whether `loadModel` and `createContext` also lock the GPU, so that estimating the free memory and using it are one
   * step on the whole machine. `'auto'`: where the Llama instance uses a GPU. `true`: there, and without a GPU the
   * CPU's memory in its place. A load with `gpuLayers: 0` never does. Default: `'auto'`.
   */
  readonly deviceLock?: 'auto' | boolean | undefined
  /** How long a server may take for the head of its answer, in milliseconds: some fetch the file themselves first. Default: `300_000`. */
  readonly headersTimeoutMs?: number | undefined
  /** How long a server may send nothing in the middle of a file, in milliseconds. Then the request is made again. Default: `30_000`. */
  readonly bodyTimeoutMs?: number | undefined
  /**
   * Below so many bytes a second, over `lowSpeedTimeMs`, a connection is made again. Time counts in which this process waits
   * for bytes. `0`: never. Default: `1024`.
   */
  readonly lowSpeedLimit?: number | undefined
  /** In milliseconds. Default: `300_000`. */
  readonly lowSpeedTimeMs?: number | undefined
  /** Where the lock files are; see `NamedMutexOptions.directory`. */
  readonly mutexDirectory?: string | undefined
}

const GATE = namesOf<LlamaModelGateOptions>({
  modelsDirectory: true,
  loadTimeoutMs: true,
  downloadTimeoutMs: true,
  extendWhileProgressing: true,
  prefix: true,
  deviceLock: true,
  mutexDirectory: true,
  headersTimeoutMs: true,
  bodyTimeoutMs: true,
  lowSpeedLimit: true,
  lowSpeedTimeMs: true,
})

/** The options of a gate with nothing left open. */
export interface GateSettings {
  readonly modelsDirectory: string
  readonly loadTimeoutMs: number
  readonly downloadTimeoutMs: number
  readonly extendWhileProgressing: boolean
  readonly prefix: string
  readonly deviceLock: 'auto' | boolean
  readonly mutexOptions: NamedMutexOptions
  /** For every request. */
  readonly transfer: TimeLimits & { readonly speedLimit: SpeedLimit }
}

export function resolveSettings(options: LlamaModelGateOptions): GateSettings {
  checkOptions(options)
  checkKnown(options, GATE, 'LlamaModelGate')
  const { loadTimeoutMs = 120_000, downloadTimeoutMs = 300_000 } = options
  checkTimeout('loadTimeoutMs', loadTimeoutMs)
  checkTimeout('downloadTimeoutMs', downloadTimeoutMs)
  return {
    modelsDirectory: resolve(options.modelsDirectory ?? defaultModelsDirectory()),
    loadTimeoutMs,
    downloadTimeoutMs,
    extendWhileProgressing: options.extendWhileProgressing ?? true,
    prefix: options.prefix ?? 'os-mutex',
    deviceLock: options.deviceLock ?? 'auto',
    mutexOptions: options.mutexDirectory === undefined ? {} : { directory: options.mutexDirectory },
    transfer: transferSettings(options),
  }
}

function transferSettings(options: LlamaModelGateOptions): GateSettings['transfer'] {
  const { headersTimeoutMs = defaultLimits.headersTimeoutMs, bodyTimeoutMs = defaultLimits.bodyTimeoutMs } = options
  const { lowSpeedLimit = defaultSpeedLimit.bytesPerSecond, lowSpeedTimeMs = defaultSpeedLimit.timeMs } = options
  checkTimeout('headersTimeoutMs', headersTimeoutMs)
  checkTimeout('bodyTimeoutMs', bodyTimeoutMs)
  checkTimeout('lowSpeedLimit', lowSpeedLimit)
  checkTimeout('lowSpeedTimeMs', lowSpeedTimeMs)
  return { headersTimeoutMs, bodyTimeoutMs, speedLimit: { bytesPerSecond: lowSpeedLimit, timeMs: lowSpeedTimeMs } }
}

function defaultModelsDirectory(): string {
  const home = homeFolder()
  if (home !== undefined) return join(home, '.node-llama-cpp', 'models')
  throw invalidArgument(
    'This user has no home folder, which models are kept in by default; give the option "modelsDirectory"',
  )
}
