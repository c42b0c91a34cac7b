// A connection that is all but dead: it brings a byte now and then, so that no limit for silence ever ends it.
import { bytesOf } from '../disk/chunks.ts'
import { ModelDownloadError } from '../errors.ts'
import { AwakeTime } from './awake-time.ts'
import type { RemoteFile } from './remote.ts'

/** As libcurl's CURLOPT_LOW_SPEED_LIMIT and CURLOPT_LOW_SPEED_TIME. */
export interface SpeedLimit {
  /** `0` for none. */
  readonly bytesPerSecond: number
  readonly timeMs: number
}

const tickMs = 1_000

export class LowSpeed {
  readonly #limit: SpeedLimit
  readonly #answer: RemoteFile
  #bytes = 0
  #waitedMs = 0
  #isWaiting = false
  readonly #time = new AwakeTime()
  #error: ModelDownloadError | undefined

  constructor(limit: SpeedLimit, answer: RemoteFile) {
    this.#limit = limit
    this.#answer = answer
  }

  /** The answer's body. Throws `ERR_MODEL_NETWORK` when over the time it was slower than the limit. */
  async *watched(): AsyncGenerator<readonly Buffer[]> {
    const timer = this.#limit.bytesPerSecond > 0 ? setInterval(() => this.#tick(), tickMs) : undefined
    try {
      const body = this.#answer.body[Symbol.asyncIterator]()
      for (;;) {
        this.#wait(true)
        const next = await body.next()
        this.#wait(false)
        if (next.done) return
        this.#bytes += bytesOf(next.value)
        yield next.value
      }
    } catch (error) {
      throw this.#error ?? error
    } finally {
      clearInterval(timer)
    }
  }

  /** Only the time counts in which this side had nothing better to do than to wait. */
  #wait(isWaiting: boolean): void {
    this.#pass()
    this.#isWaiting = isWaiting
  }

  #pass(): void {
    const passedMs = this.#time.passed()
    if (this.#isWaiting) this.#waitedMs += passedMs
  }

  #tick(): void {
    this.#pass()
    const { bytesPerSecond, timeMs } = this.#limit
    if (this.#waitedMs < timeMs) return
    if (this.#bytes * 1000 < bytesPerSecond * this.#waitedMs) {
      const message = `The connection brought ${this.#bytes} bytes in ${Math.round(this.#waitedMs / 1000)} s`
      this.#error = new ModelDownloadError('ERR_MODEL_NETWORK', message)
      this.#answer.discard()
    }
    this.#bytes = 0
    this.#waitedMs = 0
  }
}
