// Looks at published files all the time, in a thread of its own, and tells what it finds under their names.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

export interface Sight {
  readonly path: string
  /** Of all bytes that were there at one moment: an open file stays the one that it was, whatever gets its name. */
  readonly sha256: string
  readonly bytes: number
}

interface Looked {
  readonly looks: number
}

export class Observer {
  readonly #worker: Worker
  /** Rejects when the observer can't go on. */
  readonly failed: Promise<never>
  readonly #ended: Promise<number>

  /** Called with the first sight of each content of each path. */
  constructor(paths: readonly string[], onSight: (sight: Sight) => void) {
    this.#worker = new Worker(new URL(import.meta.url), { workerData: paths })
    this.#ended = new Promise((resolve, reject) => {
      this.#worker.on('message', (message: Sight | Looked) => {
        if ('looks' in message) resolve(message.looks)
        else onSight(message)
      })
      this.#worker.once('error', (error) =>
        reject(new Error(`the observer failed: ${error.message}`, { cause: error })),
      )
      this.#worker.once('exit', () => reject(new Error('the observer ended by itself')))
    })
    this.#ended.catch(() => {})
    this.failed = new Promise((_, reject) => this.#ended.catch(reject))
    this.failed.catch(() => {})
  }

  /** After one more look at everything. Gives the number of looks that found a file. */
  async stop(): Promise<number> {
    this.#worker.postMessage('stop')
    return this.#ended
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}

if (!isMainThread && Array.isArray(workerData)) {
  let isStopping = false
  let looks = 0
  const seen = new Set<string>()
  const look = (path: string) => {
    let content: Buffer
    try {
      content = readFileSync(path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
      throw error
    }
    const sha256 = createHash('sha256').update(content).digest('hex')
    looks++
    if (!seen.has(path + sha256)) parentPort?.postMessage({ path, sha256, bytes: content.length } satisfies Sight)
    seen.add(path + sha256)
  }
  const lookAtAll = () => {
    const isLast = isStopping
    for (const path of workerData as string[]) look(path)
    if (!isLast) {
      // The processor is for those who download, too.
      setTimeout(lookAtAll, 5)
      return
    }
    parentPort?.postMessage({ looks } satisfies Looked)
    parentPort?.close()
  }
  parentPort?.on('message', () => {
    isStopping = true
  })
  lookAtAll()
}
