// What a lock's owner says about itself. For people and messages only: whether it is alive, only the kernel knows.

/** How far the owner's work has come, as it reported it. */
export interface OwnerProgress {
  readonly done: number
  readonly total?: number
  readonly unit?: string
  /** Counts the owner's reports, so that a reader recognises a new one. */
  readonly sequence: number
  /**
   * When it was reported, in milliseconds of the machine's monotonic clock (`process.hrtime`). In Bun and Deno that clock
   * starts with the process, so their reports can't be compared with those of other processes.
   */
  readonly monotonicMs: number
}

/**
 * Who holds a mutex. Every field but `pid` may be missing, if the record is damaged or the owner keeps none. `app`,
 * `purpose`, `since` and `progress` come from the record, which others may have forged: for people and messages only.
 */
export interface OwnerInfo {
  /**
   * From the kernel if it names the owner, and then in the calling process's pid namespace (an owner in a container has
   * another pid inside). Else from the record.
   */
  readonly pid: number
  /**
   * Only for the present owner. `true`: the kernel identifies this very process as the owner, by its pid and its start
   * time. `false`: some of that comes only from the record, as on macOS and for owners in another container. Check
   * before you end that process. Absent on `previousOwner`, which always comes from the record.
   */
  readonly confirmed?: boolean
  /** Start time of the process in the kernel's own unit: with `pid` it distinguishes a process from a later one. */
  readonly processStart?: number
  readonly host?: string
  /** Changes with every boot of the machine (Linux, macOS). Constant on Windows, where start times are absolute. */
  readonly bootId?: string
  /** The pid namespace that `pid` belongs to (Linux), else 0. */
  readonly pidSpace?: number
  readonly app?: string
  /** `0` is the main thread, others are worker threads. */
  readonly threadId?: number
  /** Why it is held, in the owner's words. */
  readonly purpose?: string
  /** Since when, in milliseconds since 1970 UTC. */
  readonly since?: number
  readonly progress?: OwnerProgress
  /** The owner's lock object was garbage collected while held: it stays held until that process or thread ends. */
  readonly collected?: true
}

// In UTF-16 units. JSON may need six bytes for one, and a record has 4 KiB in all.
const MAX_APP = 128
const MAX_PURPOSE = 256
const MAX_UNIT = 32
const MAX_TEXT = 256

function text(value: unknown): string | undefined {
  return typeof value === 'string' ? value.slice(0, MAX_TEXT) : undefined
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** Drops what is `undefined`, so that an absent field is absent. */
function present<T extends object>(fields: { [K in keyof T]: T[K] | undefined }): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T
}

function parseProgress(value: unknown): OwnerProgress | undefined {
  if (!isObject(value)) return undefined
  const done = count(value.done)
  if (done === undefined) return undefined
  return present<OwnerProgress>({
    done,
    total: count(value.total),
    unit: text(value.unit),
    sequence: count(value.sequence) ?? 0,
    monotonicMs: count(value.monotonicMs) ?? 0,
  })
}

/** Reads an owner record. Believes nothing: any text gives an `OwnerInfo` or `undefined`, never an error. */
export function parseOwnerRecord(json: string): OwnerInfo | undefined {
  let record: unknown
  try {
    record = JSON.parse(json)
  } catch {
    return undefined
  }
  if (!isObject(record)) return undefined
  const pid = count(record.pid)
  if (pid === undefined) return undefined
  return present<OwnerInfo>({
    pid,
    processStart: count(record.processStart),
    host: text(record.host),
    bootId: text(record.bootId),
    pidSpace: count(record.pidSpace),
    app: text(record.app),
    threadId: count(record.threadId),
    purpose: text(record.purpose),
    since: count(record.since),
    progress: parseProgress(record.progress),
    collected: record.collected === true ? true : undefined,
  })
}

/** The part of a record that is the same for every acquisition of a mutex instance: JSON without its closing brace. */
export function ownerJson(identity: object, app: string, threadId: number): string {
  return JSON.stringify({ ...identity, app: app.slice(0, MAX_APP), threadId }).slice(0, -1)
}

/** A purpose as it goes into a record. */
export function purposeJson(purpose: string | undefined): string | undefined {
  return purpose === undefined ? undefined : JSON.stringify(purpose.slice(0, MAX_PURPOSE))
}

/** Progress as it goes into a record. */
export function progressJson(progress: OwnerProgress): string {
  return JSON.stringify(
    progress.unit === undefined ? progress : { ...progress, unit: progress.unit.slice(0, MAX_UNIT) },
  )
}
