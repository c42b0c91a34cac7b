// Tells the participants' stories, a sentence for each turn.
import { count, ownerName, percent, printable } from './format.ts'
import type { Report } from './protocol.ts'
import { fractionOf, type ParticipantRecord } from './record.ts'

/** A turn that a participant's story takes. */
export interface Turn {
  readonly sentence: string
  readonly isWait: boolean
}

/** A download is mentioned again each time it has come this much further. */
const STEP = 0.2

export class Narrator {
  readonly #records: readonly ParticipantRecord[]
  /** What was last told of whom. */
  readonly #told = new Map<ParticipantRecord, string>()

  constructor(records: readonly ParticipantRecord[]) {
    this.#records = records
  }

  /** What there is to tell after `report`, or after something that was no report of its own. */
  tell(record: ParticipantRecord, report: Report | undefined): Turn | undefined {
    if (report?.is === 'abandonment') {
      const what = report.mutex.includes('_Download_') ? 'download' : 'load'
      const sentence = `takes over: the ${what} was abandoned by ${ownerName(report.previousOwner, this.#records)}`
      return { sentence, isWait: false }
    }
    const sentence = this.#describe(record)
    if (sentence === undefined || sentence === this.#told.get(record)) return undefined
    this.#told.set(record, sentence)
    return { sentence, isWait: record.activity.is === 'waiting' || record.activity.is === 'waiting-to-load' }
  }

  #describe(record: ParticipantRecord): string | undefined {
    const { activity } = record
    switch (activity.is) {
      case 'waiting':
        // The last word of a wait that has ended names nobody.
        return activity.owner && `waits for the download of ${ownerName(activity.owner, this.#records)}`
      case 'downloading': {
        if (activity.phase !== 'downloading') return undefined
        const from = record.fetched?.from ?? 0
        const fraction = fractionOf(activity) ?? 0
        const reached = Math.floor(fraction / STEP) * STEP
        const share = activity.total === undefined ? 0 : from / activity.total
        if (reached > share) return `has downloaded ${percent(reached)}`
        return from === 0 ? 'downloads' : `resumes the download at ${percent(share)}`
      }
      case 'waiting-to-load':
        return `waits for the load of ${ownerName(activity.owner, this.#records)}`
      case 'loading':
        return 'loads the model'
      case 'generating':
        return 'has loaded the model and generates'
      case 'done':
        return `has generated ${count(record.tokens, 'token')}: ${printable(record.text)}`
      case 'killed':
        return activity.downloaded === undefined
          ? 'was KILLED in its load'
          : `was KILLED at ${percent(activity.downloaded)} of its download`
      case 'failed':
        return `FAILED: ${activity.message.split('\n', 1)[0]}`
      default:
        return undefined
    }
  }
}
