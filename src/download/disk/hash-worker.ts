// The thread that reads and hashes: see hasher.ts, which starts it. It owns its descriptor and its hash; all that it shares
// with the thread that started it is the file, of which it reads only what it was told to be there for good.
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort, workerData } from 'node:worker_threads'

/** To the worker: how many bytes, from the first on, can be read and hashed. `last`: there will be no more. */
export interface HashOrder {
  readonly upTo: number
  readonly last: boolean
}

/** From the worker: how far it is. With the hash when that was all. */
export interface HashNews {
  readonly done: number
  readonly sha256?: string
  /** Reading failed; `code` is the system's. */
  readonly failure?: { readonly message: string; readonly code: string | undefined }
}

const blockBytes = 1024 * 1024
const toldEvery = 16 * blockBytes

function serve(port: NonNullable<typeof parentPort>, path: string): void {
  const hash = createHash('sha256')
  const block = Buffer.allocUnsafe(blockBytes)
  let descriptor: number | undefined
  let order: HashOrder = { upTo: 0, last: false }
  let done = 0
  let told = 0
  let isTurnTaken = false

  const say = (news: HashNews) => port.postMessage(news)
  const end = (news: HashNews) => {
    if (descriptor !== undefined) closeSync(descriptor)
    say(news)
    port.close()
  }
  // A block a turn, so that a new order, or the end of this thread, is heard soon.
  const turn = () => {
    isTurnTaken = false
    try {
      descriptor ??= openSync(path, 'r')
      const read = readSync(descriptor, block, 0, Math.min(blockBytes, order.upTo - done), done)
      hash.update(block.subarray(0, read))
      done += read
      const isShort = read === 0 && done < order.upTo
      if (order.last && (done === order.upTo || isShort)) return end({ done, sha256: hash.digest('hex') })
      if (done - told >= toldEvery) {
        told = done
        say({ done })
      }
      if (!isShort) takeTurn()
    } catch (error) {
      const { message, code } = error as NodeJS.ErrnoException
      end({ done, failure: { message, code } })
    }
  }
  const takeTurn = () => {
    if (isTurnTaken || (done >= order.upTo && !order.last)) return
    isTurnTaken = true
    setImmediate(turn)
  }
  port.on('message', (next: HashOrder) => {
    order = next
    takeTurn()
  })
}

if (parentPort !== null) serve(parentPort, (workerData as { readonly path: string }).path)
