// Commands that are run in any order on real mutexes and on the reference model, which then must agree.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { AttemptsModel, Id, Outcome } from './reference-model.ts'

/** One of them, by any number. */
export function pick<T>(among: readonly T[], index: number): T {
  return among[index % among.length] ?? assert.fail('there is none')
}

export function outcomeOf(error: unknown): Outcome {
  const { code, message } = error as { code?: string; message: string }
  if (message.startsWith('aborted')) return 'aborted'
  if (code === 'ERR_MUTEX_TIMEOUT') return 'timed out'
  if (code === 'ERR_MUTEX_CLOSED') return 'closed'
  throw error
}

/** So long may a grant take. Once one has not come, the shorter sequences that fail as well are to be found soon. */
let patienceMs = 10_000

/** The first of the attempts with these ids that ends. */
export async function firstOf(
  ids: readonly Id[],
  attempts: readonly { readonly settled?: Promise<unknown> }[],
): Promise<Id> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      patienceMs = 200
      reject(new Error(`The mutex is free, and none of ${ids} is granted it`))
    }, patienceMs)
  })
  try {
    return await Promise.race([late, ...ids.map((id) => pick(attempts, id).settled?.then(() => id) ?? late)])
  } finally {
    clearTimeout(timer)
  }
}

export type Seen = Pick<AttemptsModel, 'mutex' | 'granted' | 'limited'>

export interface World {
  /** Compares all that there is to see with the model. */
  check(model: AttemptsModel): Promise<void>
}

/** Makes a command that looks at everything when it has been run. `index` chooses what it is about. */
export function command<W extends World>(
  name: string,
  isPossible: (model: Seen, index: number) => boolean,
  run: (model: AttemptsModel, world: W, index: number) => Promise<void> | void,
): fc.Arbitrary<fc.AsyncCommand<AttemptsModel, W>> {
  return fc.nat(999).map((index) => ({
    check: (model) => isPossible(model, index),
    run: async (model, world) => {
      await run(model, world, index)
      await world.check(model)
    },
    toString: () => `${name} ${index}`,
  }))
}

export const always = () => true
export const someWait = ({ mutex }: Seen) => mutex.waiting.length > 0
export const someHaveHadIt = ({ granted }: Seen) => granted.length > 0
// Without its limit, a sequence is seldom long enough for a line to form.
export const sequenceLength = { maxCommands: 60, size: 'max' as const }
