// What the demo's main process and its participants say to each other.
import type { OwnerInfo } from 'os-mutex'
import type { LlamaModelGateOptions, ModelProgress, ModelSource } from 'os-mutex/llama'

/** What a participant is to do; it gets this as its only argument, in JSON. */
export interface Briefing {
  readonly gate: LlamaModelGateOptions
  readonly source: ModelSource
  readonly useMmap: boolean
}

/** `freeze`: stand still in the middle of your work (where no signal can make you). */
export type Order = 'begin' | 'freeze' | 'quit'

export type Report = {
  /** Of the machine's monotonic clock, in milliseconds: the stamps of different processes can be compared. */
  readonly atMs: number
} & (
  | { readonly is: 'ready'; readonly pid: number; readonly threadId: number }
  /** Of `gate.load`: this participant downloads, or waits for another one that does. */
  | { readonly is: 'progress'; readonly progress: ModelProgress }
  | { readonly is: 'frozen' }
  | { readonly is: 'load-wait'; readonly owner?: OwnerInfo }
  | { readonly is: 'acquired'; readonly mutex: string; readonly waitedMs: number }
  /** The lock just acquired was left behind by a dead owner. */
  | { readonly is: 'abandonment'; readonly mutex: string; readonly previousOwner?: OwnerInfo }
  /** llama.loadModel is about to be called, or has just settled; the model's lock is held at both moments. */
  | { readonly is: 'load-start' | 'load-end' }
  | { readonly is: 'load-progress'; readonly fraction: number }
  | { readonly is: 'token'; readonly text: string }
  | { readonly is: 'done'; readonly path: string; readonly sha256: string }
  | { readonly is: 'failed'; readonly message: string }
)

type WithoutStamp<T> = T extends Report ? Omit<T, 'atMs'> : never
export type Unstamped = WithoutStamp<Report>

export function monotonicMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
