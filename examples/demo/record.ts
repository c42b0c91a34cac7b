// What the demo knows of one participant, from its reports alone: what it is doing, for the eye, and what it did, as evidence.
import type { OwnerInfo } from 'os-mutex'
import type { DownloadProgress, ModelProgress } from 'os-mutex/llama'
import type { Report } from './protocol.ts'

export type Activity =
  | { readonly is: 'starting' | 'ready' | 'done' }
  | { readonly is: 'waiting'; readonly owner: OwnerInfo | undefined; readonly done: number; readonly total?: number }
  | ({ readonly is: 'downloading' } & DownloadProgress)
  | { readonly is: 'waiting-to-load'; readonly owner: OwnerInfo | undefined }
  | { readonly is: 'loading'; readonly fraction: number }
  | { readonly is: 'generating' }
  /** How far its download was, or that it was in its load. */
  | { readonly is: 'killed'; readonly downloaded: number | undefined }
  | { readonly is: 'failed'; readonly message: string }

export interface Abandonment {
  readonly mutex: string
  readonly previousOwner?: OwnerInfo
}

export interface Killing {
  /** Just before. */
  readonly atMs: number
  /** The pid that held the lock for its work just before. */
  readonly lockOwner: number
}

export class ParticipantRecord {
  readonly name: string
  pid: number | undefined
  threadId = 0
  activity: Activity = { is: 'starting' }

  /** From the first byte that it fetched to the last one that it reported as kept. */
  fetched: { readonly from: number; readonly to: number; readonly total: number | undefined } | undefined
  readonly loads: { readonly fromMs: number; toMs?: number }[] = []
  readonly abandonments: Abandonment[] = []
  /** The mutexes it has held, by name. */
  readonly mutexes: string[] = []
  waitedMs = 0
  tokens = 0
  text = ''
  file: { readonly path: string; readonly sha256: string } | undefined
  killing: Killing | undefined
  isFrozen = false

  constructor(name: string) {
    this.name = name
  }

  /** Nothing more is to be expected of it. */
  get isOver(): boolean {
    return this.activity.is === 'done' || this.activity.is === 'killed' || this.activity.is === 'failed'
  }

  apply(report: Report): void {
    this.#now(this.#take(report))
  }

  /** To be called before the kill itself, so that its stamp is not too late. */
  willBeKilled(killing: Killing): void {
    const { activity } = this
    this.killing = killing
    this.#now({ is: 'killed', downloaded: activity.is === 'downloading' ? fractionOf(activity) : undefined })
  }

  ended(how: string): void {
    this.#now({ is: 'failed', message: `it ended unexpectedly: ${how}` })
  }

  /** Notes the evidence. Gives what the participant is doing now, where that has changed. */
  #take(report: Report): Activity | undefined {
    switch (report.is) {
      case 'ready':
        this.pid = report.pid
        this.threadId = report.threadId
        return { is: 'ready' }
      case 'progress':
        return this.#takeProgress(report.progress)
      case 'frozen':
        this.isFrozen = true
        return undefined
      case 'load-wait':
        return { is: 'waiting-to-load', owner: report.owner }
      case 'acquired':
        this.mutexes.push(report.mutex)
        this.waitedMs += report.waitedMs
        return undefined
      case 'abandonment':
        this.abandonments.push(report)
        return undefined
      case 'load-start':
        this.loads.push({ fromMs: report.atMs })
        return { is: 'loading', fraction: 0 }
      case 'load-progress':
        // llama.cpp's last progress may come after the load has settled.
        return this.activity.is === 'loading' ? { is: 'loading', fraction: report.fraction } : undefined
      case 'load-end': {
        const load = this.loads.at(-1)
        if (load !== undefined) load.toMs = report.atMs
        return { is: 'generating' }
      }
      case 'token':
        this.tokens++
        this.text += report.text
        return undefined
      case 'done':
        this.file = { path: report.path, sha256: report.sha256 }
        return { is: 'done' }
      case 'failed':
        return { is: 'failed', message: report.message }
    }
  }

  #takeProgress(progress: ModelProgress): Activity | undefined {
    if (progress.phase === 'waiting') {
      const { owner, done, total } = progress
      // An owner without progress only looks whether the file is there, and passes the lock on at once; between two owners
      // there is none. The end of the wait has none either, but all of the bytes.
      if (owner?.progress === undefined && done !== total) return undefined
      return { is: 'waiting', owner, done, ...(total !== undefined && { total }) }
    }
    // The last bytes may have no progress of their own: what is to be published is all there.
    if (progress.phase === 'downloading' || (progress.phase === 'publishing' && this.fetched !== undefined)) {
      const { done, total } = progress
      this.fetched = { from: this.fetched?.from ?? done, to: done, total }
    }
    return { is: 'downloading', ...progress }
  }

  /** Reports that were under way when it was killed are evidence, but bring nobody back to life. */
  #now(activity: Activity | undefined): void {
    if (activity !== undefined && !this.isOver) this.activity = activity
  }
}

/** How far along, from 0 to 1, where that can be told. */
export function fractionOf(activity: Activity): number | undefined {
  switch (activity.is) {
    case 'waiting':
    case 'downloading':
      return activity.total === undefined ? undefined : activity.done / activity.total
    case 'loading':
      return activity.fraction
    case 'killed':
      return activity.downloaded
    default:
      return undefined
  }
}
