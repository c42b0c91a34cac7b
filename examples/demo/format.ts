// Figures and names as people read them.
import type { OwnerInfo } from 'os-mutex'
import type { ParticipantRecord } from './record.ts'

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`
}

/** 0 % is nothing and 100 % is the whole: what lies between is not rounded to them. */
export function percent(fraction: number): string {
  const rounded = Math.round(fraction * 100)
  return `${fraction > 0 && fraction < 1 ? Math.min(99, Math.max(1, rounded)) : rounded} %`
}

export function count(number: number, singular: string, plural = `${singular}s`): string {
  return `${number} ${number === 1 ? singular : plural}`
}

/** A random model generates random bytes. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '·')
}

/** The threads share a pid; their names tell them apart. */
export function pidOf({ pid }: ParticipantRecord): string {
  return pid === undefined ? '' : `pid ${pid}`
}

/** What the demo calls the owner of a lock. */
export function ownerName(owner: OwnerInfo | undefined, records: readonly ParticipantRecord[]): string {
  if (owner === undefined) return 'an unknown owner'
  const record = records.find(({ pid, threadId }) => pid === owner.pid && threadId === (owner.threadId ?? 0))
  return record?.name ?? `pid ${owner.pid}`
}
