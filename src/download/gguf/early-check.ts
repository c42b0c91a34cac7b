// Looks at a file while it comes in: as soon as the tensor infos are there, they tell how large the file must be. A cut or
// foreign one is known by its first megabyte then, and an endless one by its end.
import { type FileHandle, open } from 'node:fs/promises'
import { ggufNeeds, whyCut } from './structure.ts'

const MiB = 1024 * 1024
/** The infos of a small model are within this. */
const firstLookBytes = 256 * 1024
/** A body that does not tell its length may have so much behind the last tensor. */
const slackBytes = MiB

export class EarlyCheck {
  readonly #path: string
  /** Size of the whole file, where it is known. */
  readonly #total: number | undefined
  #nextLook = firstLookBytes
  #looking = false
  #needed: number | undefined

  constructor(path: string, total: number | undefined) {
    this.#path = path
    this.#total = total
  }

  /** How many bytes the file can have; infinite until that is known. */
  get limit(): number {
    return this.#needed === undefined ? Number.POSITIVE_INFINITY : this.#needed + slackBytes
  }

  /** Why the file can't be right, if that can be told from its first bytes, so many of which are on disk. */
  async look(frontier: number): Promise<string | undefined> {
    if (this.#needed !== undefined || this.#looking || frontier < this.#nextLook) return undefined
    this.#looking = true
    let handle: FileHandle | undefined
    try {
      handle = await open(this.#path, 'r')
      const found = await ggufNeeds(handle, frontier)
      this.#nextLook = Math.max(2 * this.#nextLook, frontier + this.#nextLook)
      if ('why' in found) return found.isCut ? undefined : found.why
      this.#needed = found.needed
      return this.#total !== undefined && found.needed > this.#total ? whyCut(found.needed, this.#total) : undefined
    } catch {
      // It is looked at once more when it is whole.
      return undefined
    } finally {
      this.#looking = false
      await handle?.close()
    }
  }
}
