// What a mutex has to be, in a few lines: one owner, and in each process a line that is served first come, first served.

/** An attempt to have the mutex, by its number. */
export type Id = number

export type Outcome = 'waits' | 'has it' | 'had it' | 'refused' | 'aborted' | 'timed out' | 'closed'

class ReferenceMutex {
  owner: Id | undefined
  readonly #lines = new Map<string, Id[]>()

  /** Released, and the next owner has not heard of it yet. */
  get isHandedOver(): boolean {
    return this.owner === undefined && this.waiting.length > 0
  }

  get waiting(): readonly Id[] {
    return [...this.#lines.values()].flat()
  }

  /** Who may be the next: the first of each process's line. */
  get first(): readonly Id[] {
    return [...this.#lines.values()].flatMap((line) => line.slice(0, 1))
  }

  tryAcquire(id: Id): boolean {
    if (this.owner !== undefined || this.waiting.length > 0) return false
    this.owner = id
    return true
  }

  queue(id: Id, process: string): void {
    this.#lines.set(process, [...(this.#lines.get(process) ?? []), id])
  }

  leave(id: Id): void {
    for (const [process, line] of this.#lines) {
      const others = line.filter((other) => other !== id)
      this.#lines.set(process, others)
    }
  }

  grant(id: Id): void {
    if (this.owner !== undefined) throw new Error(`${id} was granted what ${this.owner} owns`)
    if (!this.first.includes(id)) throw new Error(`${id} was granted the mutex before ${this.first}`)
    this.leave(id)
    this.owner = id
  }
}

/** A mutex, and all attempts to have it through instances that may be closed. */
export class AttemptsModel {
  readonly mutex = new ReferenceMutex()
  /** By id: how each attempt stands. */
  readonly outcomes: Outcome[] = []
  /** By id: which instance it was made through. */
  readonly through: number[] = []
  /** Attempts with a time limit. */
  readonly limited = new Set<Id>()
  readonly #closed = new Set<number>()

  /** All attempts that have or had the mutex: each may be released, also again. */
  get granted(): readonly Id[] {
    return [...this.outcomes.keys()].filter((id) => this.outcomes[id] === 'has it' || this.outcomes[id] === 'had it')
  }

  tryAcquire(instance: number): Id {
    const id = this.outcomes.length
    this.through.push(instance)
    if (this.#closed.has(instance)) this.outcomes.push('closed')
    else this.outcomes.push(this.mutex.tryAcquire(id) ? 'has it' : 'refused')
    return id
  }

  acquire(instance: number, process: string): Id {
    const id = this.tryAcquire(instance)
    if (this.outcomes[id] !== 'refused') return id
    this.outcomes[id] = 'waits'
    this.mutex.queue(id, process)
    return id
  }

  grant(id: Id): void {
    this.mutex.grant(id)
    this.outcomes[id] = 'has it'
  }

  giveUp(id: Id, outcome: Outcome): void {
    this.mutex.leave(id)
    this.outcomes[id] = outcome
  }

  /** Does nothing to the mutex unless it is the owner's. */
  release(id: Id): void {
    if (this.mutex.owner === id) this.mutex.owner = undefined
    this.outcomes[id] = 'had it'
  }

  /** Gives the attempts that end by it. */
  close(instance: number): readonly Id[] {
    this.#closed.add(instance)
    const ended = this.mutex.waiting.filter((id) => this.through[id] === instance)
    for (const id of ended) this.giveUp(id, 'closed')
    return ended
  }
}
