// What the demo promises, checked against what was seen. Pure: evidence in, findings out.
import { basename } from 'node:path'
import type { ChildEnding } from '../../test/support/child.ts'
import { count, percent } from './format.ts'
import type { DemoModel, ServedRange } from './model.ts'
import type { ParticipantRecord } from './record.ts'

export interface Evidence {
  readonly records: readonly ParticipantRecord[]
  readonly original: DemoModel['original']
  readonly served: readonly ServedRange[] | undefined
  /** The published file as the demo read it itself. */
  readonly published: { readonly bytes: number; readonly sha256: string } | undefined
  /** All names in the models folder. */
  readonly folder: readonly string[]
  /** All mutexes that were ever held, and who held them at the end, while all survivors were still there. */
  readonly mutexes: readonly { readonly name: string; readonly held: boolean }[]
  /** How the survivors' processes ended. */
  readonly endings: readonly ChildEnding[]
}

export interface Finding {
  readonly promise: string
  readonly kept: boolean
  /** What was seen. */
  readonly seen: string
}

export function judge(evidence: Evidence): Finding[] {
  return [
    killsHit(evidence),
    evidence.served === undefined ? fetchedOnce(evidence) : servedOnce(evidence, evidence.served),
    oneContent(evidence),
    loadsApart(evidence),
    abandonmentsTold(evidence),
    tokensCame(evidence),
    folderClean(evidence),
    locksFree(evidence),
    endedWell(evidence),
  ]
}

function survivors({ records }: Evidence): ParticipantRecord[] {
  return records.filter(({ activity }) => activity.is !== 'killed')
}

interface Victim {
  readonly record: ParticipantRecord
  /** Undefined for one that was killed in its load. */
  readonly downloaded: number | undefined
}

function victims({ records }: Evidence): Victim[] {
  return records.flatMap((record) =>
    record.activity.is === 'killed' ? [{ record, downloaded: record.activity.downloaded }] : [],
  )
}

/** Without this the other findings would say nothing about crashes. */
function killsHit(evidence: Evidence): Finding {
  const hits = victims(evidence).filter(({ record }) => record.killing?.lockOwner === record.pid)
  const download = hits.find(({ downloaded = 0 }) => downloaded > 0 && downloaded < 1)
  const load = hits.find(({ record, downloaded }) => downloaded === undefined && isInLoad(record))
  const inDownload = download ? `${download.record.name} at ${percent(download.downloaded ?? 0)} of its download` : ''
  const inLoad = load ? `${load.record.name} in its load` : ''
  return {
    promise: 'kills',
    kept: download !== undefined && load !== undefined && hits.length === 2,
    seen: `${inDownload || 'nobody in mid-download'}, ${inLoad || 'nobody in mid-load'}`,
  }
}

function isInLoad({ loads }: ParticipantRecord): boolean {
  return loads.length === 1 && loads[0]?.toMs === undefined
}

/**
 * What a process has kept of its last moment may not be noted when it is killed, and is sent again: the map of its partial is
 * written every 50 ms. Of the demo's own model, at its pace, that is as much of the whole.
 */
const LAST_MOMENT = 1 / 16

/**
 * Each answer of the server begins where the file of the one before it ended. What was sent beyond that was sent to the killed
 * process, which did not live to keep it; what it had reported as kept must not be sent again, but for its last moment's.
 */
function servedOnce(evidence: Evidence, served: readonly ServedRange[]): Finding {
  const size = evidence.original?.bytes ?? 0
  const sent = served.reduce((sum, range) => sum + range.bytes, 0)
  const [first, second] = served
  const kept = second?.from ?? 0
  const lost = (first?.bytes ?? 0) - kept
  const reported = victims(evidence).find(({ downloaded }) => downloaded !== undefined)?.record.fetched?.to ?? 0
  const isSeamless = kept > 0 && kept >= reported - size * LAST_MOMENT && lost >= 0 && second?.bytes === size - kept
  return {
    promise: 'one download',
    kept: served.length === 2 && isSeamless && sent === size + lost,
    seen: `${sent} bytes sent: ${size} + ${sent - size} ${served.length === 2 ? 'lost in the kill' : `in ${count(served.length, 'request')}`}`,
  }
}

/** With a server that is not ours, the participants' own books: each byte of the file was received once, by one of them. */
function fetchedOnce({ records, published }: Evidence): Finding {
  const total = published?.bytes ?? 0
  const fetched = records
    .flatMap((record) => record.fetched ?? [])
    .filter(({ from, to }) => to > from)
    .sort((a, b) => a.from - b.from)
  const [first, second] = fetched
  // A killed process may have kept some bytes after its last report: the next one begins there, or a moment before.
  const isNext = second !== undefined && second.from >= (first?.to ?? 0) - total * LAST_MOMENT
  const seamless = first?.from === 0 && isNext && second.to === total
  return {
    promise: 'one download',
    kept: fetched.length === 2 && seamless,
    seen: `${count(fetched.length, 'part')}: ${fetched.map(({ from, to }) => `bytes ${from} to ${to}`).join(', ')}`,
  }
}

function oneContent(evidence: Evidence): Finding {
  const { original, published } = evidence
  const told = survivors(evidence).map((record) => record.file?.sha256)
  const sums = new Set([...told, published?.sha256, ...(original ? [original.sha256] : [])])
  const size = original === undefined || original.bytes === published?.bytes
  const name = published === undefined ? 'nothing published' : `sha256 ${published.sha256.slice(0, 12)}…`
  const whose = original === undefined ? '' : ", the original's"
  return {
    promise: 'one content',
    kept: sums.size === 1 && published !== undefined && size,
    seen: sums.size === 1 ? `${name} for all${whose}` : `${sums.size} different sums or none`,
  }
}

/** The stamps were taken by the owners while they held the lock; the killed one's load ends with the kill. */
function loadsApart(evidence: Evidence): Finding {
  const loads = evidence.records
    .flatMap(({ name, loads, killing }) =>
      loads.map(({ fromMs, toMs }) => ({ name, fromMs, toMs: toMs ?? killing?.atMs ?? Number.POSITIVE_INFINITY })),
    )
    .sort((a, b) => a.fromMs - b.fromMs)
  const overlaps = loads.flatMap((load, index) => {
    const earlier = loads.slice(0, index).filter(({ toMs }) => toMs > load.fromMs)
    return earlier.map(({ name }) => `${name} and ${load.name}`)
  })
  const once = survivors(evidence).filter((record) => record.loads.length === 1 && record.loads[0]?.toMs !== undefined)
  return {
    promise: 'loads apart',
    kept: overlaps.length === 0 && once.length === survivors(evidence).length,
    seen: `${count(loads.length, 'load')}, ${overlaps.length === 0 ? 'no two overlapped' : `${overlaps.length} times two at once: ${overlaps[0]}`}`,
  }
}

/** Each victim's lock told its next owner, and nobody else was told anything of the kind. */
function abandonmentsTold(evidence: Evidence): Finding {
  const told = evidence.records.flatMap(({ name, abandonments }) => abandonments.map((one) => ({ to: name, ...one })))
  const perVictim = victims(evidence).map(({ record, downloaded }) => {
    const kind = downloaded === undefined ? '_Model_' : '_Download_'
    const heirs = told.filter(({ mutex, previousOwner }) => mutex.includes(kind) && previousOwner?.pid === record.pid)
    return { name: record.name, heirs: heirs.map(({ to }) => to) }
  })
  return {
    promise: 'abandonments',
    kept: perVictim.length === 2 && perVictim.every(({ heirs }) => heirs.length === 1) && told.length === 2,
    seen: `${told.length} told: ${perVictim.map(({ name, heirs }) => `${name}'s to ${heirs.join(' and ') || 'nobody'}`).join(', ')}`,
  }
}

function tokensCame(evidence: Evidence): Finding {
  const all = survivors(evidence)
  const speaking = all.filter(({ activity, tokens }) => activity.is === 'done' && tokens > 0)
  const tokens = speaking.reduce((sum, record) => sum + record.tokens, 0)
  return {
    promise: 'tokens',
    kept: all.length > 0 && speaking.length === all.length,
    seen: `${speaking.length} of ${all.length}, ${count(tokens, 'token')}`,
  }
}

function folderClean({ records, folder }: Evidence): Finding {
  const path = records.find(({ file }) => file !== undefined)?.file?.path
  const model = path === undefined ? undefined : basename(path)
  const strays = folder.filter((name) => name !== model && name !== `.${model}.os-mutex.json` && name !== '.locks')
  const isThere = model !== undefined && folder.includes(model)
  const leftBehind = strays.length === 0 ? 'no partial' : `left behind: ${strays.join(', ')}`
  return {
    promise: 'clean folder',
    kept: isThere && strays.length === 0,
    seen: `${isThere ? 'the model and its manifest' : 'no model'}, ${leftBehind}`,
  }
}

function locksFree({ mutexes }: Evidence): Finding {
  const held = mutexes.filter((mutex) => mutex.held)
  return {
    promise: 'locks free',
    // A download's and a model's.
    kept: mutexes.length === 2 && held.length === 0,
    seen: `${mutexes.length} mutexes, ${held.length === 0 ? 'none held' : `held: ${held.map(({ name }) => name).join(', ')}`}`,
  }
}

function endedWell({ endings }: Evidence): Finding {
  const bad = endings.filter((ending) => ending !== 0)
  return {
    promise: 'clean ends',
    kept: endings.length > 0 && bad.length === 0,
    seen: `${count(endings.length, 'surviving process', 'surviving processes')}, ${bad.length === 0 ? 'all ended with 0' : `ended with ${bad.join(', ')}`}`,
  }
}
