// Creating one context: one estimate-and-create per GPU at a time, under the same lock as estimate-and-load.
import { isError, messageOf } from '../mutex/caught.ts'
import { checkOptions, checkTimeout } from '../mutex/options.ts'
import type { OwnerInfo } from '../mutex/owner-info.ts'
import { deviceMutexNames } from './devices.ts'
import { LlamaContextError } from './errors.ts'
import type { GateSettings } from './gate-options.ts'
import { HeldLocks } from './held-locks.ts'
import { loggedReason, withErrorLog } from './log-tap.ts'
import type { LlamaContext, LlamaContextOptions, LlamaModel } from './node-llama-cpp.ts'
import { Patience } from './wait/patience.ts'

/**
 * node-llama-cpp's own options, of which `createSignal` also ends the wait, and two for the wait. All other names go to
 * node-llama-cpp as they are, so a misspelt one is not noticed here.
 */
export type CreateContextOptions = LlamaContextOptions & {
  /**
   * How long to wait for the GPU, in milliseconds. It runs from the last progress of a load that holds it. A creation
   * has no progress that node-llama-cpp reports, so those ahead in the queue count in full. `0` tries once, `Infinity`
   * waits for ever. Default: the gate's `loadTimeoutMs`.
   */
  readonly timeoutMs?: number | undefined
  /** Called each time the creation has to wait, with the owner as far as its record can be read. */
  readonly onWait?: ((owner: OwnerInfo | undefined) => void) | undefined
}

/**
 * The model's `gpuLayers` make no difference here: also for a model without a layer on the GPU llama.cpp takes the
 * GPU's memory for the context's compute buffers.
 */
export async function createContext(
  model: LlamaModel,
  options: CreateContextOptions,
  settings: GateSettings,
): Promise<LlamaContext> {
  checkOptions(options)
  const { timeoutMs = settings.loadTimeoutMs, onWait, ...contextOptions } = options
  const { createSignal } = contextOptions
  checkTimeout('timeoutMs', timeoutMs)
  createSignal?.throwIfAborted()
  const work = `create a context of ${model.filename ?? 'a model'}`
  const { mutexOptions, extendWhileProgressing } = settings
  using locks = new HeldLocks({
    mutexOptions,
    patience: new Patience({ limitMs: timeoutMs, extendWhileProgressing, beginsAtZero: true }),
    purpose: work,
    work,
    limitOption: 'timeoutMs',
    signal: createSignal,
    onWait,
  })
  for (const name of await deviceMutexNames(model.llama, settings)) await locks.take(name)
  // All that there is to report: that it is being created, and waits for nothing more.
  locks.report({ done: 0, total: 1, unit: 'contexts' })
  return await createWithReason(model, contextOptions)
}

async function createWithReason(model: LlamaModel, options: LlamaContextOptions): Promise<LlamaContext> {
  const signal = options.createSignal
  return withErrorLog(model.llama, {
    load: () => model.createContext(options),
    signal,
    onFailure: (error, lines) =>
      error !== undefined && error === signal?.reason ? error : contextError(model, error, lines),
  })
}

function contextError(model: LlamaModel, cause: unknown, lines: readonly string[]): LlamaContextError {
  const message = messageOf(cause)
  const reason = (message === GENERIC_MESSAGE ? loggedReason(lines, REASON_MARK) : undefined) ?? message
  // Not by instanceof: the class would have to be imported with all of node-llama-cpp.
  const isMemory = isError(cause) && cause.constructor.name === 'InsufficientMemoryError'
  const advice =
    'Ask for a smaller one (contextSize: { max: … }), or dispose of contexts and models that are not needed'
  return new LlamaContextError(
    isMemory ? 'ERR_LLAMA_CONTEXT_NO_MEMORY' : 'ERR_LLAMA_CONTEXT_FAILED',
    `No context of ${model.filename ?? 'the model'} could be created: ${reason}. ${advice}`,
    { reason, cause },
  )
}

const GENERIC_MESSAGE = 'Failed to create context'
const REASON_MARK = 'failed to initialize the context:'
