// SHA-256 of a file that is on disk, or is still being written: hashed as far as it is there, beside what writes it.
//
// It reads the file, and not the bytes on their way into it: so it can begin with what an earlier process left, takes the
// bytes in order though several connections bring them out of it, and hashes what is really in the file. While the file is
// in the page cache, as it is right after a download, that costs no access to the disk.
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { abortable } from './abortable.ts'
import { onDisk } from './files.ts'
import type { HashNews, HashOrder } from './hash-worker.ts'

export interface HashOptions {
  readonly signal?: AbortSignal | undefined
  readonly onBytes?: ((done: number) => void) | undefined
}

/** Hashes the first bytes of a file, as they come. */
export interface FileHash {
  /** How many bytes are hashed, as far as is known here. */
  readonly done: number
  /** So many bytes are there for good and can be hashed. */
  reach(bytes: number): void
  /** The SHA-256 of the file's first so many bytes, or of all there are where it ends before. Once only. */
  digest(bytes: number, options?: HashOptions): Promise<string>
  /** Lets go of the file. Idempotent. */
  close(): void
}

// A thread takes some 30 ms to start: as long as hashing so much takes.
const worthAThreadBytes = 16 * 1024 * 1024

/** `expectedBytes`: how large the file is going to be, where that is known. */
export function hashFile(path: string, expectedBytes: number | undefined): FileHash {
  const isSmall = expectedBytes !== undefined && expectedBytes < worthAThreadBytes
  return isSmall ? new OwnThreadHash(path) : new WorkerHash(path)
}

// Small enough that one update stays well under a millisecond or two of the event loop.
const blockBytes = 512 * 1024

/** On this thread, and not before `digest`. For small files, and where there can be no other thread. */
class OwnThreadHash implements FileHash {
  readonly done = 0
  readonly #path: string
  #isClosed = false

  constructor(path: string) {
    this.#path = path
  }

  reach(): void {}

  async digest(bytes: number, { signal, onBytes }: HashOptions = {}): Promise<string> {
    const path = this.#path
    const hash = createHash('sha256')
    const handle = await onDisk('opening', path, open(path, 'r'))
    try {
      const block = Buffer.allocUnsafe(Math.min(blockBytes, Math.max(bytes, 1)))
      for (let done = 0; done < bytes && !this.#isClosed; ) {
        signal?.throwIfAborted()
        const wanted = Math.min(block.length, bytes - done)
        const { bytesRead } = await onDisk('reading', path, handle.read(block, 0, wanted, done))
        if (bytesRead === 0) break
        hash.update(block.subarray(0, bytesRead))
        done += bytesRead
        onBytes?.(done)
      }
    } finally {
      await handle.close()
    }
    return hash.digest('hex')
  }

  close(): void {
    this.#isClosed = true
  }
}

/** On a thread of its own. */
class WorkerHash implements FileHash {
  readonly #path: string
  readonly #worker: Worker | undefined
  readonly #ended: Promise<HashNews | undefined>
  done = 0
  #onBytes: ((done: number) => void) | undefined
  #reached = 0

  constructor(path: string) {
    this.#path = path
    this.#worker = startWorker(path)
    // Resolves with `undefined` where the thread can't do its work: a bundler may have left its module out.
    this.#ended = new Promise((resolve) => {
      this.#worker?.on('message', (news: HashNews) => {
        this.done = news.done
        this.#onBytes?.(news.done)
        if (news.sha256 !== undefined || news.failure !== undefined) resolve(news)
      })
      this.#worker?.on('error', () => resolve(undefined))
      this.#worker?.on('exit', () => resolve(undefined))
      if (this.#worker === undefined) resolve(undefined)
    })
  }

  reach(bytes: number): void {
    if (bytes <= this.#reached) return
    this.#reached = bytes
    this.#order({ upTo: bytes, last: false })
  }

  async digest(bytes: number, options: HashOptions = {}): Promise<string> {
    this.#onBytes = options.onBytes
    this.#order({ upTo: bytes, last: true })
    const news = await abortable(this.#ended, options.signal)
    if (news?.failure) {
      await onDisk('reading', this.#path, Promise.reject(Object.assign(new Error(news.failure.message), news.failure)))
    }
    return news?.sha256 ?? new OwnThreadHash(this.#path).digest(bytes, options)
  }

  close(): void {
    void this.#worker?.terminate()
  }

  #order(order: HashOrder): void {
    this.#worker?.postMessage(order)
  }
}

function startWorker(path: string): Worker | undefined {
  try {
    return new Worker(join(__dirname, 'hash-worker.js'), {
      workerData: { path },
      // Without the options of this process: a loader or an inspector has no business there.
      execArgv: [],
      // It makes hardly any garbage; by default V8 would take as much room as for a program.
      resourceLimits: { maxYoungGenerationSizeMb: 2, maxOldGenerationSizeMb: 16 },
    })
  } catch {
    return undefined
  }
}
