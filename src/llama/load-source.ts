// From a source to a loaded model: what is loaded is what ensureModel answered, though others may publish under the
// same name between the two steps.
//
//   1  ensureModel answers a file
//   2  its load lock is taken, which may take minutes
//   3  the files are compared with the answer; if another one is there, all begins again at 1
//   4  llama.cpp loads
//   5  the files are compared with those of step 3: one that was replaced in step 4 may or may not be what was loaded,
//      so the model is disposed of, and all begins again at 1, once

import { areSame, lookAgain, sealsOf } from '../download/published/seal.ts'
import type { PublishedModel } from '../download/published/verify.ts'
import { ModelLoadError } from './errors.ts'
import type { LoadCall, LoadTurn } from './load-model.ts'
import type { LlamaModel } from './node-llama-cpp.ts'

/** How often a model is got and loaded before its name counts as fought over. */
const MOST_ROUNDS = 4
/** A load is long, and the memory of a model that is thrown away may be large. */
const MOST_LOADS = 2

interface Replaced {
  readonly replaced: 'before the load' | 'during the load'
  /** What came of it, where that was an error. */
  readonly error?: unknown
}

type Outcome = { readonly model: LlamaModel } | Replaced

/** `ensure`: one call of ensureModel. */
export async function loadEnsured(call: LoadCall, ensure: () => Promise<PublishedModel>): Promise<LlamaModel> {
  let loads = 0
  for (let round = 1; ; round++) {
    const file = await ensure()
    const outcome = await call.inTurn(file.path, (turn) => loadSealed(call, turn, file)).catch(replacedOrThrow)
    if ('model' in outcome) return outcome.model
    if (outcome.replaced === 'during the load') loads++
    if (round === MOST_ROUNDS || loads === MOST_LOADS) throw outcome.error ?? replacedError(file.path, round)
  }
}

/** What ensureModel has just answered can be gone or no model only if somebody has been there since. */
function replacedOrThrow(error: unknown): Replaced {
  const isOther =
    error instanceof ModelLoadError && (error.code === 'ERR_MODEL_NOT_FOUND' || error.code === 'ERR_MODEL_NOT_GGUF')
  if (!isOther) throw error
  return { replaced: 'before the load', error }
}

async function loadSealed(call: LoadCall, turn: LoadTurn, file: PublishedModel): Promise<Outcome> {
  const { loadSignal: signal } = call.options
  const onBytes = (done: number) => turn.locks.report({ done, total: file.bytes, unit: 'bytes' })
  const seals = await sealsOf(file, { signal, onBytes })
  if (seals === undefined) return { replaced: 'before the load' }
  let model: LlamaModel
  try {
    model = await turn.load()
  } catch (error) {
    if (signal?.aborted || areSame(seals, await lookAgain(seals))) throw error
    return { replaced: 'during the load', error }
  }
  if (areSame(seals, await lookAgain(seals))) return { model }
  await model.dispose()
  return { replaced: 'during the load' }
}

function replacedError(path: string, rounds: number): ModelLoadError {
  const reason = 'another file keeps taking its name'
  const message =
    `${path} was replaced ${rounds} times between its download and its load: ${reason}, so another program publishes ` +
    'another model there. Give this one a name of its own (`fileName`), or a models folder that nothing else uses'
  return new ModelLoadError('ERR_MODEL_REPLACED', message, { path, reason })
}
