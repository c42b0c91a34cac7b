// The demo without a terminal: one line for each thing that happens.
import { pidOf, seconds } from './format.ts'
import type { Turn } from './narration.ts'
import type { ParticipantRecord } from './record.ts'
import type { View } from './view.ts'

export class Lines implements View {
  readonly #startedAt = performance.now()

  constructor(label: string) {
    console.log(label)
  }

  happened(record: ParticipantRecord, { sentence }: Turn): void {
    const at = `t+${seconds(performance.now() - this.#startedAt)}`
    console.log(`${at.padEnd(8)} ${record.name} ${pidOf(record).padEnd(11)} ${sentence}`)
  }

  close(): void {}
}
