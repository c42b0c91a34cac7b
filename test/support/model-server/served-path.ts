// What the model server knows about one path: the file, its faults, its pause, and what was asked and sent.
import type { Fault } from './fault.ts'
import type { ReceivedRequest, ServedFile } from './served-file.ts'

export class ServedPath {
  served: ServedFile | undefined
  pausedAt: number | undefined
  bytesServed = 0
  active = 0
  mostActive = 0
  /** Answers that carried the file or said something about it. */
  answers = 0
  readonly requests: ReceivedRequest[] = []
  readonly #waiting = new Set<() => void>()
  #faults: { readonly fault: Fault; wellLeft: number; timesLeft: number }[] = []
  #sinceFaults = 0

  setFaults(faults: readonly Fault[]): void {
    this.#sinceFaults = 0
    this.#faults = faults.map((fault) => ({
      fault,
      wellLeft: fault.after ?? 0,
      timesLeft: fault.times ?? Number.POSITIVE_INFINITY,
    }))
  }

  takeFault(request: ReceivedRequest): Fault | undefined {
    this.#sinceFaults++
    const next = this.#faults.find(
      ({ fault, timesLeft }) => timesLeft > 0 && (fault.only?.(request, this.#sinceFaults) ?? true),
    )
    if (next === undefined || next.wellLeft-- > 0) return undefined
    next.timesLeft--
    return next.fault
  }

  wake(): void {
    for (const check of [...this.#waiting]) check()
  }

  async until(condition: (served: ServedPath) => boolean): Promise<void> {
    if (condition(this)) return
    await new Promise<void>((resolve) => {
      const check = () => {
        if (!condition(this)) return
        this.#waiting.delete(check)
        resolve()
      }
      this.#waiting.add(check)
    })
  }
}
