// The program of a worker thread that comes, works, waits or holds, and ends by its fate (see environments.test.ts).
import { parentPort, workerData } from 'node:worker_threads'
import { NamedMutex } from 'os-mutex'

/** What a worker is about when it ends, and what ends it. */
export const fates = [
  'holds, and is terminated',
  'holds, and exits',
  'holds, and throws',
  'comes and goes, and is terminated at any moment',
  'has done its work, and ends',
  'waits, and is terminated',
  'waits, and exits',
  'is blocked in acquireSync, and is terminated',
] as const
export type Fate = (typeof fates)[number]

/** What all threads write down, in memory that they share. */
export interface Diary {
  /** By mutex: who is inside, 0 for nobody. Whoever dies inside stays. */
  readonly inside: Int32Array
  /** By mutex: how often it was entered, counted as only an exclusive owner can. */
  readonly entries: Int32Array
  /** The same, counted atomically. */
  readonly trueEntries: Int32Array
  /** By worker: how often its death inside was told to a next owner. At 0: deaths of owners that had not come inside yet. */
  readonly deaths: Int32Array
  /** 0: entered where another was inside, and its death was not told. 1: left, and was not alone inside. */
  readonly wrongs: Int32Array
}

export interface Orders {
  readonly directory: string
  readonly names: readonly string[]
  /** Held by somebody else all the time. */
  readonly busyName: string
  readonly id: number
  readonly fate: Fate
  readonly diary: Diary
}

/** Goes inside, having been given the lock of the mutex number `at`. */
export async function enter(
  diary: Diary,
  at: number,
  id: number,
  lock: { readonly abandoned: boolean },
): Promise<void> {
  const before = Atomics.exchange(diary.inside, at, id)
  if (lock.abandoned) Atomics.add(diary.deaths, before, 1)
  else if (before !== 0) Atomics.add(diary.wrongs, 0, 1)
  const entries = diary.entries[at] ?? 0
  await new Promise((resolve) => setImmediate(resolve))
  diary.entries[at] = entries + 1
  Atomics.add(diary.trueEntries, at, 1)
}

export function leave(diary: Diary, at: number, id: number): void {
  if (Atomics.compareExchange(diary.inside, at, id, 0) !== id) Atomics.add(diary.wrongs, 1, 1)
}

/** What has to stay reachable to the end. */
const kept: unknown[] = []

async function live({ directory, names, busyName, id, fate, diary }: Orders): Promise<void> {
  const mutexes = names.map((name) => new NamedMutex(name, { directory }))
  kept.push(mutexes)
  const there = () => parentPort?.postMessage('there')
  const acquire = async (at: number) => {
    const lock = await (mutexes[at % mutexes.length] as NamedMutex).acquire({ purpose: fate })
    await enter(diary, at % mutexes.length, id, lock)
    return lock
  }
  const visit = async (at: number) => {
    const lock = await acquire(at)
    leave(diary, at % mutexes.length, id)
    lock.release()
  }
  const busy = new NamedMutex(busyName, { directory })
  switch (fate) {
    case 'has done its work, and ends':
      for (let turn = 0; turn < mutexes.length; turn++) await visit(id + turn)
      return
    case 'comes and goes, and is terminated at any moment':
      there()
      for (let turn = 0; ; turn++) await visit(id + turn)
    case 'holds, and is terminated':
      kept.push(await acquire(id))
      there()
      return parentPort?.ref()
    case 'holds, and exits':
      kept.push(await acquire(id))
      return process.exit(0)
    case 'holds, and throws':
      kept.push(await acquire(id))
      throw new Error('meant to be thrown')
    case 'waits, and is terminated':
      kept.push(await busy.acquire({ onWait: there }))
      return
    case 'waits, and exits':
      kept.push(await busy.acquire({ timeoutMs: 1_000_000, onWait: () => process.exit(0) }))
      return
    case 'is blocked in acquireSync, and is terminated':
      kept.push(busy.acquireSync({ onWait: there }))
  }
}

if (workerData !== null) await live(workerData as Orders)
