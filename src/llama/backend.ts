// Getting llama.cpp itself: node-llama-cpp may clone and build it, in folders that all processes share.
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Llama, LlamaOptions } from 'node-llama-cpp'
import { NamedMutex } from '../mutex/named-mutex.ts'
import { checkOptions } from '../mutex/options.ts'
import type { OwnerInfo } from '../mutex/owner-info.ts'
import { LlamaBackendError } from './errors.ts'
import type { GateSettings } from './gate-options.ts'
import { backendMutexName } from './mutex-names.ts'

/**
 * node-llama-cpp's own options and three for the wait. Names that are none of the three go to node-llama-cpp as they
 * are, so a misspelt one is not noticed here.
 */
export type GetLlamaOptions = LlamaOptions & {
  /**
   * How long to wait for another process's build, in milliseconds. `Infinity` unless told: a build may take half an hour, and
   * one that dies frees its mutex at once.
   */
  readonly timeoutMs?: number
  /** Ends the wait for another process's build and the pauses between tries; a running build goes on to its end. */
  readonly signal?: AbortSignal
  /** Called when there is a wait, with the owner as far as its record can be read. */
  readonly onWait?: (owner: OwnerInfo | undefined) => void
}

type NodeLlamaCpp = typeof import('node-llama-cpp')

const RETRY_DELAYS_MS = [1000, 2000, 4000]

export async function getLlama(options: GetLlamaOptions, settings: GateSettings): Promise<Llama> {
  checkOptions(options)
  const { timeoutMs, signal, onWait, ...llamaOptions } = options
  signal?.throwIfAborted()
  const module = await importNodeLlamaCpp()
  if (!mayBuild(llamaOptions)) return module.getLlama(llamaOptions).catch(fail)

  const existing = await getExisting(module, llamaOptions)
  if (existing !== undefined) return existing

  using mutex = new NamedMutex(backendMutexName(settings.prefix), settings.mutexOptions)
  const lock = await mutex.acquire({
    purpose: 'build llama.cpp',
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(signal && { signal }),
    ...(onWait && { onWait }),
  })
  try {
    return await buildWithRetries(module, llamaOptions, signal)
  } finally {
    lock.release()
  }
}

async function importNodeLlamaCpp(): Promise<NodeLlamaCpp> {
  try {
    return await import('node-llama-cpp')
  } catch (cause) {
    throw new LlamaBackendError(
      'ERR_LLAMA_NOT_INSTALLED',
      'The package node-llama-cpp could not be loaded. It does not come with os-mutex: npm install node-llama-cpp@3',
      { cause },
    )
  }
}

/** node-llama-cpp neither clones nor builds with these, so there is nothing to guard. */
function mayBuild({ build, dryRun }: LlamaOptions): boolean {
  return dryRun !== true && (build ?? (process.versions.electron === undefined ? 'auto' : 'never')) !== 'never'
}

/** With `build: 'auto'`, which builds only where there is no binary at all, the lock is for those who build. */
async function getExisting(module: NodeLlamaCpp, options: LlamaOptions): Promise<Llama | undefined> {
  if ((options.build ?? 'auto') !== 'auto') return undefined
  try {
    return await module.getLlama({ ...options, build: 'never', progressLogs: false })
  } catch (error) {
    if (error instanceof module.NoBinaryFoundError) return undefined
    return fail(error)
  }
}

async function buildWithRetries(module: NodeLlamaCpp, options: LlamaOptions, signal?: AbortSignal): Promise<Llama> {
  const hadSource = hasSource()
  for (let retries = 0; ; retries++) {
    try {
      return await module.getLlama(options)
    } catch (error) {
      const delayMs = RETRY_DELAYS_MS[retries]
      if (delayMs === undefined || error instanceof module.NoBinaryFoundError) return fail(error)
      await delay(delayMs, undefined, signal && { signal }).catch(() => signal?.throwIfAborted())
      if (!hadSource) await removeSource()
    }
  }
}

/**
 * Whether llama.cpp's source is there. One that was there before the first try may be the user's choice of a release
 * (`node-llama-cpp source download --release …`) and stays.
 */
function hasSource(): boolean {
  const llamaFolder = join(dirname(fileURLToPath(import.meta.resolve('node-llama-cpp'))), '..', 'llama')
  return !existsSync(llamaFolder) || existsSync(join(llamaFolder, 'llama.cpp', '.git'))
}

/**
 * The clean start between tries. Only a clone can spoil the next try (it may be cut short, or without its patches): a build
 * begins by removing what an earlier one left in its folder, and is never used without the mark that it sets at its end.
 */
async function removeSource(): Promise<void> {
  const { ClearLlamaCppBuildCommand } = await import('node-llama-cpp/commands')
  await ClearLlamaCppBuildCommand({ type: 'source' })
}

function fail(cause: unknown): never {
  // node-llama-cpp passes on whole stack traces as messages.
  const [reason] = (cause instanceof Error ? cause.message : String(cause)).split('\n', 1)
  throw new LlamaBackendError(
    'ERR_LLAMA_BACKEND_FAILED',
    `node-llama-cpp found or built no usable llama.cpp: ${reason}`,
    {
      cause,
    },
  )
}
