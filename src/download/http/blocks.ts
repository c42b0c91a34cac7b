// What comes from a connection, gathered in large blocks, which are used again. One buffer for each 16 or 64 KiB would be most of
// what a download costs: the garbage, and the memory that the system has to find for each.

export const blockBytes = 1024 * 1024

export class Blocks {
  /** So many bytes wait to be taken. */
  bytes = 0
  #full: Buffer[] = []
  #last: Buffer | undefined
  /** How far `#last` is filled. */
  #filled = 0
  readonly #free: Buffer[] = []

  /** Copies: the chunk need not be valid any longer. */
  add(chunk: Uint8Array): void {
    this.bytes += chunk.length
    for (let at = 0; at < chunk.length; ) {
      this.#last ??= this.#free.pop() ?? Buffer.allocUnsafeSlow(blockBytes)
      const part = chunk.subarray(at, at + blockBytes - this.#filled)
      this.#last.set(part, this.#filled)
      this.#filled += part.length
      at += part.length
      if (this.#filled === blockBytes) this.#close()
    }
  }

  /** All that waits, in order. It belongs to the caller until it is given back. */
  take(): readonly Buffer[] {
    if (this.#filled > 0) this.#close()
    const taken = this.#full
    this.#full = []
    this.bytes = 0
    return taken
  }

  /** Of what was taken: nobody reads it any more. Who does not give back leaves it to the garbage collector. */
  giveBack(taken: readonly Buffer[]): void {
    for (const { buffer } of taken) this.#free.push(Buffer.from(buffer))
  }

  #close(): void {
    if (this.#last) this.#full.push(this.#last.subarray(0, this.#filled))
    this.#last = undefined
    this.#filled = 0
  }
}
