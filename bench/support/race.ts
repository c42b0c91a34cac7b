// Several downloaders in turn, each into an empty folder. Pairs alternate: who goes first in one round goes last in the next, since
// every fixed order lets the same one pay for what another leaves behind.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'

export interface Timing {
  /** From the call to its promise's resolution; of a program, which has no such call, from its start to its end. */
  readonly ms: number
  /** Processor time, of all threads and in the kernel too: of the call, or of the program. */
  readonly cpuMs: number
  /** Of a Node process: from its start to its end, and what `NodeResult` says. */
  readonly node?: { readonly processMs: number; readonly peakRssBytes: number }
}

export interface Party {
  readonly name: string
  /** It is measured beside the others. Default: `false`. */
  readonly isOurs?: boolean
  /** How many times as fast as it we want to be, at least. */
  readonly least?: number
  /** How many times its processor time we may take. */
  readonly mostCpu?: number
  /** Downloads into an empty folder. */
  run(folder: string): Promise<Timing>
}

export interface Track {
  /** Where the empty folders are made. */
  readonly root: string
  readonly rounds: number
}

/** Of one party, a timing of each round. */
export type Timings = ReadonlyMap<string, readonly Timing[]>

/** An empty folder for `work`, with nothing of what was before left to be written to the disk. */
export async function inFreshFolder<T>(root: string, work: (folder: string) => Promise<T>): Promise<T> {
  execFileSync('sync')
  const folder = mkdtempSync(path.join(root, 'party-'))
  try {
    return await work(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** The items of a round in their order, or in the other one. */
export function alternated<T>(items: readonly T[], round: number): readonly T[] {
  return round % 2 === 0 ? items : [...items].reverse()
}

export async function race(parties: readonly Party[], bytes: number, { root, rounds }: Track): Promise<Timings> {
  const timings = new Map(parties.map(({ name }) => [name, [] as Timing[]]))
  for (let round = 0; round < rounds; round++) {
    for (const party of alternated(parties, round)) {
      const timing = await inFreshFolder(root, async (folder) => {
        const timing = await party.run(folder)
        checkIsThere(party.name, folder, bytes)
        return timing
      })
      timings.get(party.name)?.push(timing)
    }
  }
  return timings
}

function checkIsThere(name: string, folder: string, bytes: number): void {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => path.join(folder, file))
  if (files.some((file) => statSync(file).size === bytes)) return
  throw new Error(`${name} left no file of ${bytes} bytes; there is ${files.join(', ') || 'nothing'}`)
}
