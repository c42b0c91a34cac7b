// Getting llama.cpp itself: node-llama-cpp may clone and build it, in folders that all processes share.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { messageOf } from '../mutex/caught.ts'
import { NamedMutex } from '../mutex/named-mutex.ts'
import { checkOptions, checkTimeout } from '../mutex/options.ts'
import type { OwnerInfo } from '../mutex/owner-info.ts'
import { LlamaBackendError } from './errors.ts'
import type { GateSettings } from './gate-options.ts'
import { type LlamaModule, type LlamaModuleOption, openLlamaModule, removeSource } from './llama-module.ts'
import { backendMutexName } from './mutex-names.ts'
import type { Llama, LlamaOptions, NodeLlamaCpp } from './node-llama-cpp.ts'
import { ForeignBuild } from './wait/foreign-build.ts'
import { Patience } from './wait/patience.ts'
import { acquirePatiently } from './wait/progressing-wait.ts'
import { waitTimeoutError } from './wait/wait-timeout.ts'

/**
 * node-llama-cpp's own options, three for the wait, and `module`. All other names go to node-llama-cpp as they are, so
 * a misspelt one is not noticed here.
 */
export type GetLlamaOptions = LlamaOptions & {
  /**
   * How long to wait for another process's build, in milliseconds. `0` waits for none. A build may take half an hour,
   * and one whose process dies frees its lock by itself. Default: `Infinity`.
   */
  readonly timeoutMs?: number | undefined
  /** Ends the wait for another process's build and the pauses between tries. A running build goes on to its end. */
  readonly signal?: AbortSignal | undefined
  /** Called each time there is a wait, with the owner where it is known: a program without a gate keeps no record. */
  readonly onWait?: ((owner: OwnerInfo | undefined) => void) | undefined
  /**
   * node-llama-cpp itself, or a function that imports it. For a program that has it outside `node_modules`, where this
   * package can't find it. Builds by programs without a gate are then not seen: node-llama-cpp waits for them, without
   * `timeoutMs` and `onWait`. Default: `import('node-llama-cpp')`. A function may give that same copy, too.
   */
  readonly module?: LlamaModuleOption | undefined
}

const RETRY_DELAYS_MS = [1000, 2000, 4000]

export async function getLlama(options: GetLlamaOptions, settings: GateSettings): Promise<Llama> {
  checkOptions(options)
  const { timeoutMs = Number.POSITIVE_INFINITY, signal, onWait, module: moduleOption, ...llamaOptions } = options
  checkTimeout('timeoutMs', timeoutMs)
  signal?.throwIfAborted()
  const { module, folder } = await openLlamaModule(moduleOption)
  const name = backendMutexName(settings.prefix)
  using mutex = new NamedMutex(name, settings.mutexOptions)
  const patience = new Patience({ limitMs: timeoutMs, extendWhileProgressing: false })
  let isHeldHere = false
  const findOwner = () => (isHeldHere ? undefined : ownerOf(mutex))
  const foreign = new ForeignBuild(llamaOptions, { folder, patience, signal, onWait, findOwner })

  if (!mayBuild(llamaOptions)) return foreign.ask(() => module.getLlama(llamaOptions).catch(fail))

  // With `build: 'auto'`, which builds only where there is no binary at all, the lock is for those who build. But while
  // a gate builds what is wanted here, node-llama-cpp would not answer.
  const isAuto = (llamaOptions.build ?? 'auto') === 'auto'
  if (isAuto && !((await foreign.find()) !== undefined && mutex.query().held)) {
    const existing = await foreign.ask(() => getExisting(module, llamaOptions))
    if (existing !== undefined) return existing
  }

  const lock = await acquirePatiently(mutex, patience, {
    purpose: 'build llama.cpp',
    signal,
    onWait,
    timeoutError: (state) => waitTimeoutError('build llama.cpp', 'timeoutMs', { mutexName: name, timeoutMs }, state),
  })
  isHeldHere = true
  try {
    return await buildWithRetries({ module, folder }, llamaOptions, foreign, signal)
  } finally {
    lock.release()
  }
}

/** For reports only: what goes wrong in a look does not matter here. */
function ownerOf(mutex: NamedMutex): OwnerInfo | undefined {
  try {
    return mutex.query().owner
  } catch {
    return undefined
  }
}

/** node-llama-cpp neither clones nor builds with these, so there is nothing to guard. */
function mayBuild({ build, dryRun }: LlamaOptions): boolean {
  return dryRun !== true && (build ?? (process.versions.electron === undefined ? 'auto' : 'never')) !== 'never'
}

async function getExisting(module: NodeLlamaCpp, options: LlamaOptions): Promise<Llama | undefined> {
  try {
    return await module.getLlama({ ...options, build: 'never', progressLogs: false })
  } catch (error) {
    if (error instanceof module.NoBinaryFoundError) return undefined
    return fail(error)
  }
}

async function buildWithRetries(
  { module, folder }: LlamaModule,
  options: LlamaOptions,
  foreign: ForeignBuild,
  signal: AbortSignal | undefined,
): Promise<Llama> {
  const hadSource = hasSource(folder)
  for (let retries = 0; ; retries++) {
    // A builder without a gate, or a dead one whose lock node-llama-cpp still takes for a living one's: node-llama-cpp
    // would fail after 3 s.
    await foreign.end()
    try {
      return await module.getLlama(options)
    } catch (error) {
      const delayMs = RETRY_DELAYS_MS[retries]
      if (delayMs === undefined || error instanceof module.NoBinaryFoundError) return fail(error)
      await delay(delayMs, undefined, signal && { signal }).catch(() => signal?.throwIfAborted())
      // The clean start between tries. Only a clone can spoil the next try (it may be cut short, or without its
      // patches): a build begins by removing what an earlier one left in its folder, and is never used without the mark
      // that it sets at its end. What cannot be removed, the next try reports.
      if (!hadSource) await removeSource().catch(() => {})
    }
  }
}

/**
 * Whether llama.cpp's source is there. One that was there before the first try may be the user's choice of a release
 * (`node-llama-cpp source download --release …`) and stays.
 */
function hasSource(folder: string | undefined): boolean {
  return folder === undefined || existsSync(join(folder, 'llama.cpp', '.git'))
}

function fail(cause: unknown): never {
  // node-llama-cpp passes on whole stack traces as messages.
  const [reason] = messageOf(cause).split('\n', 1)
  throw new LlamaBackendError(
    'ERR_LLAMA_BACKEND_FAILED',
    `node-llama-cpp found or built no usable llama.cpp: ${reason}`,
    {
      cause,
    },
  )
}
