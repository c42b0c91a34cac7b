// The last words: what became of everyone, and whether the promises were kept.
import { mebibytes, percent, seconds } from './format.ts'
import type { Paint } from './paint.ts'
import type { ParticipantRecord } from './record.ts'
import type { Finding } from './verdict.ts'

const COLUMNS = ['', 'pid', 'role', 'waited', 'download', 'load', 'tokens', 'fate'] as const
/** Figures stand right. */
const RIGHT = new Set<string>(['waited', 'download', 'load', 'tokens'])

export function formatTable(records: readonly ParticipantRecord[], paint: Paint): string[] {
  const rows = records.map(row)
  const widths = COLUMNS.map((column, index) =>
    Math.max(column.length, ...rows.map((cells) => cells[index]?.length ?? 0)),
  )
  const line = (cells: readonly string[]) =>
    ` ${cells
      .map((cell, index) => {
        const width = widths[index] ?? 0
        return RIGHT.has(COLUMNS[index] ?? '') ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd()}`
  return [
    paint('bold', line(COLUMNS)),
    ...rows.map((cells, index) => (records[index]?.activity.is === 'done' ? line(cells) : paint('red', line(cells)))),
  ]
}

function row(record: ParticipantRecord): string[] {
  const { name, waitedMs, fetched, tokens } = record
  return [
    name,
    String(record.pid ?? ''),
    role(record),
    seconds(waitedMs),
    fetched === undefined ? '–' : mebibytes(fetched.to - fetched.from),
    load(record),
    tokens === 0 ? '–' : String(tokens),
    fate(record),
  ]
}

function role({ fetched, mutexes }: ParticipantRecord): string {
  if (fetched !== undefined) return fetched.from === 0 ? 'downloads' : 'resumes'
  return mutexes.some((name) => name.includes('_Download_')) ? 'waits' : 'latecomer'
}

function load({ loads, killing }: ParticipantRecord): string {
  const last = loads.at(-1)
  const toMs = last?.toMs ?? killing?.atMs
  return last === undefined || toMs === undefined ? '–' : `${Math.round(toMs - last.fromMs)} ms`
}

function fate({ activity }: ParticipantRecord): string {
  switch (activity.is) {
    case 'done':
      return 'ok'
    case 'killed':
      return activity.downloaded === undefined ? 'killed in load' : `killed at ${percent(activity.downloaded)}`
    default:
      return activity.is
  }
}

/** What the table has no room for. */
export function formatFailures(records: readonly ParticipantRecord[]): string[] {
  return records.flatMap(({ name, activity }) =>
    activity.is === 'failed' ? [`${name} failed: ${activity.message}`] : [],
  )
}

export function formatVerdict(findings: readonly Finding[], paint: Paint): string[] {
  const width = Math.max(...findings.map(({ promise }) => promise.length))
  return findings.map(({ promise, kept, seen }) => {
    const mark = kept ? paint('green', 'ok    ') : paint('red', 'BROKEN')
    return ` ${mark}  ${promise.padEnd(width)}  ${seen}`
  })
}
