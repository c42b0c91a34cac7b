// What a mutex of the storm protects: a number in a file, with the name of whoever wrote it last. Read and written by two calls, between
// which anything may happen.
import { closeSync, openSync, readSync, writeSync } from 'node:fs'
import type { Acquisition } from './journal.ts'

export interface Count {
  readonly value: number
  readonly writer: Acquisition
}

const bytesOfCount = 12

export class Counter {
  readonly #descriptor: number
  readonly #bytes = Buffer.alloc(bytesOfCount)

  constructor(path: string) {
    this.#descriptor = openSync(path, 'r+')
  }

  read(): Count {
    const bytes = this.#bytes
    readSync(this.#descriptor, bytes, 0, bytesOfCount, 0)
    return { value: bytes.readUInt32LE(0), writer: { actor: bytes.readUInt32LE(4), number: bytes.readUInt32LE(8) } }
  }

  /** One small write at the file's start: a kill leaves the one state or the other. */
  write({ value, writer }: Count): void {
    const bytes = this.#bytes
    bytes.writeUInt32LE(value, 0)
    bytes.writeUInt32LE(writer.actor, 4)
    bytes.writeUInt32LE(writer.number, 8)
    writeSync(this.#descriptor, bytes, 0, bytesOfCount, 0)
  }

  close(): void {
    closeSync(this.#descriptor)
  }
}

/** The state before the first update. */
export const emptyCount = Buffer.alloc(bytesOfCount)
