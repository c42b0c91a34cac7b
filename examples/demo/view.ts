import type { Turn } from './narration.ts'
import type { ParticipantRecord } from './record.ts'

/** Something that shows the demo while it runs. */
export interface View {
  happened(record: ParticipantRecord, turn: Turn): void
  close(): void
}
