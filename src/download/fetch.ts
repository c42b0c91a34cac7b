// Gets the bytes of one file into a partial: from where an earlier download ended, over as many connections as help, again and
// again, until all are there.
//
//   open      one request for the first byte that is missing. Its answer says whether the server still has the version that
//             bytes are kept of, has the published one (nothing to do), or another
//   fill      lanes bring the rest (lanes.ts)
//   again     after a failure that may pass, as long as tries bring something (http/retry.ts)
import { setTimeout as sleep } from 'node:timers/promises'
import { bytesOf } from './disk/chunks.ts'
import { ModelDownloadError } from './errors.ts'
import { FetchErrors } from './fetch-errors.ts'
import { EarlyCheck } from './gguf/early-check.ts'
import { ggufHeaderBytes, whyNotGguf } from './gguf/header.ts'
import { changeConditions, rangeConditions } from './http/conditions.ts'
import { isSameVersion, type RemoteIdentity, strengthOf } from './http/identity.ts'
import type { SpeedLimit } from './http/low-speed.ts'
import { TransferPatience } from './http/patience.ts'
import type { RemoteLike } from './http/pieces.ts'
import { type Ask, type RemoteFile, type Reply, UnusableRangeError } from './http/remote.ts'
import { Retries } from './http/retry.ts'
import { Lanes } from './lanes.ts'
import type { Extent } from './partial/extents.ts'
import { PartialFile, SpoiltPartialError } from './partial/file.ts'
import type { ProgressReporter } from './progress.ts'
import type { ResolvedSource } from './source/parse.ts'

export interface FetchOptions {
  readonly source: ResolvedSource
  readonly destination: string
  readonly remote: RemoteLike
  /** What an earlier download left. */
  readonly partial: PartialFile | undefined
  /** The whole file, or its beginning, as it was answered a moment ago. */
  readonly first: RemoteFile | undefined
  /** The version that is published, if the server is to be asked whether it has another. */
  readonly known: RemoteIdentity | undefined
  readonly progress: ProgressReporter
  readonly signal: AbortSignal | undefined
  /** Default: as many as make it faster, up to 8. */
  readonly connections: number | undefined
  readonly retryDelaysMs: readonly number[]
  readonly speedLimit: SpeedLimit
  /** How long it may go on without new bytes, 64 KiB or more. */
  readonly patienceMs: number
  /** How much of that is left at its beginning. */
  readonly firstPatienceMs: number
  /** Makes sure that so many bytes more fit on the disk. */
  readonly makeRoom: (bytes: number) => Promise<void>
}

/** How the bytes came together, which says what a wrong hash or structure may come from. */
export type Joined = 'one answer' | 'one version' | 'by date' | 'several versions'

export type Fetched =
  | { readonly kind: 'whole'; readonly partial: PartialFile; readonly joined: Joined }
  | { readonly kind: 'unchanged' }

const wrong = new Set<string>(['ERR_MODEL_SIZE_MISMATCH', 'ERR_MODEL_NOT_GGUF'])
const mostConnections = 8
/** A smaller file is there before a second connection would help. */
const minSegmentedBytes = 16 * 1024 * 1024

export class Fetch {
  readonly #options: FetchOptions
  readonly #source: ResolvedSource
  readonly #progress: ProgressReporter
  readonly #errors: FetchErrors
  #partial: PartialFile | undefined
  #first: RemoteFile | undefined
  #received = 0
  #resumed: number
  #joined: Joined = 'one answer'
  /** Size of the whole file by the last answer's word. */
  #promised: number | undefined
  /** The server answers If-Range with the whole file, though it has this version: asked by If-Match it gives the part. */
  #byMatch = false
  #isInOnePiece = false
  #isBegunAgain = false

  constructor(options: FetchOptions) {
    this.#options = options
    this.#source = options.source
    this.#errors = new FetchErrors(options.source.label)
    this.#progress = options.progress
    this.#partial = options.partial
    this.#resumed = options.partial?.kept ?? 0
    this.#first = options.first
    if (options.partial) this.#joined = 'several versions'
  }

  /** Bytes that came in, those that had to be thrown away included. */
  get received(): number {
    return this.#received
  }

  /** Bytes that an earlier download left, and that were not thrown away. */
  get resumed(): number {
    return this.#resumed
  }

  /** What is here. It belongs to whoever called, also after a failure. */
  get partial(): PartialFile | undefined {
    return this.#partial
  }

  /** Resolves when all bytes are there. After it failed, or its result was found wrong, it can be called again. */
  async run(): Promise<Fetched> {
    const { signal, retryDelaysMs, patienceMs: limitMs, firstPatienceMs: firstMs } = this.#options
    const retries = new Retries(retryDelaysMs)
    using patience = new TransferPatience({ limitMs, firstMs, signal, onTick: () => this.#progress.tell() })
    let farthest = this.#partial?.kept ?? 0
    for (;;) {
      try {
        return await this.#try(patience)
      } catch (error) {
        signal?.throwIfAborted()
        patience.throwIfFailed()
        if (patience.isOver) throw this.#errors.standsStill(patience.limitMs, error)
        if (error instanceof SpoiltPartialError && !this.#isBegunAgain) {
          this.#isBegunAgain = true
          await this.#startOver()
          continue
        }
        // The farthest so far, not the last: a transfer that has to begin again each time gets nowhere.
        const kept = this.#partial?.kept ?? 0
        const brought = Math.max(0, kept - farthest)
        farthest = Math.max(farthest, kept)
        const isUnusable = error instanceof UnusableRangeError
        if (isUnusable) this.#isInOnePiece = true
        const delayMs = retries.next(isUnusable ? this.#errors.inconsistent() : error, brought)
        if (delayMs === undefined || patience.endsWithin(delayMs))
          throw isUnusable ? this.#errors.inconsistent() : error
        // The next try finds that it was called off.
        await sleep(delayMs, undefined, { signal: patience.signal }).catch(() => {})
      }
    }
  }

  /** Once more, from the first byte. */
  async again(): Promise<Fetched> {
    await this.#startOver()
    return this.run()
  }

  /** Once more, from the first byte, by one answer. */
  async inOnePiece(): Promise<Fetched> {
    await this.#startOver()
    this.#isInOnePiece = true
    return this.run()
  }

  async #try(patience: TransferPatience): Promise<Fetched> {
    const remote = await this.#open(patience.signal)
    if (remote === 'unchanged') return { kind: 'unchanged' }
    if (remote === 'whole') return { kind: 'whole', partial: this.#partial as PartialFile, joined: this.#joined }
    try {
      const partial = remote.offset > 0 ? this.#partial : undefined
      if (partial) await this.#makeRoom()
      const whole = await (partial ? this.#fillIn(partial, remote, patience) : this.#fillNew(remote, patience))
      return { kind: 'whole', partial: whole, joined: this.#joined }
    } finally {
      remote.discard()
    }
  }

  /** `whole`: all bytes are here already, and a hash will tell whether they are right. */
  async #open(signal: AbortSignal): Promise<RemoteFile | 'unchanged' | 'whole'> {
    const { known, remote } = this.#options
    const first = this.#first
    this.#first = undefined
    if (this.#partial === undefined && first !== undefined) return this.#enter(first)
    first?.discard()
    const rest = await this.#openRest(signal)
    if (rest === 'whole' || rest === 'unchanged') return rest
    if (rest !== undefined) return this.#enter(rest)
    const reply = await remote.get({ conditions: changeConditions(known), known, signal })
    if (reply.kind === 'changed') throw new UnusableRangeError()
    if (reply.kind === 'unchanged') return 'unchanged'
    // Some servers know no conditions, and send the whole of what is here.
    if (known === undefined || !isSameVersion(known, reply.file.identity)) return this.#enter(reply.file)
    reply.file.discard()
    return 'unchanged'
  }

  #enter(remote: RemoteFile): RemoteFile {
    this.#promised = remote.identity.bytes ?? this.#source.bytes
    const kept = remote.offset > 0 ? (this.#partial?.kept ?? 0) : 0
    this.#progress.enter('downloading', kept, this.#promised)
    return remote
  }

  /** The partial's first gap, if the server still has the version that it is a part of; or the whole file, if it answers so. */
  async #openRest(signal: AbortSignal): Promise<RemoteFile | 'unchanged' | 'whole' | undefined> {
    const partial = this.#partial
    if (!partial || this.#isInOnePiece || strengthOf(partial.identity) === 'none') return undefined
    const gap = partial.missing(partial.identity.bytes ?? Number.POSITIVE_INFINITY)[0]
    if (gap === undefined) return 'whole'
    if (gap.start === 0) return undefined
    const { known } = this.#options
    // The partial's own validator would be answered by 304 and no byte, for ever.
    const isOther = known !== undefined && !isSameVersion(partial.identity, known)
    const asked = { ...(isOther && changeConditions(known)) }
    const first = await this.#ask(partial, gap, asked, signal)
    // Nothing says that this 304 is about the published file, and not about the part that was asked for.
    return first === 'unchanged' ? this.#ask(partial, gap, {}, signal) : first
  }

  async #ask(
    partial: PartialFile,
    gap: Extent,
    conditions: Readonly<Record<string, string>>,
    signal: AbortSignal,
  ): Promise<RemoteFile | 'unchanged' | undefined> {
    const { identity } = partial
    const range = { start: gap.start, end: gap.end < (identity.bytes ?? 0) ? gap.end : undefined }
    const reply = await this.#askPart(identity, { range, conditions, signal }).catch((error: unknown) => {
      if (error instanceof UnusableRangeError) return undefined
      throw error
    })
    if (reply === undefined || reply.kind === 'changed') return undefined
    if (reply.kind === 'unchanged') return 'unchanged'
    const { file } = reply
    if (file.offset === 0 || (file.offset === gap.start && isSameVersion(identity, file.identity))) return file
    file.discard()
    return undefined
  }

  /**
   * Asks for a part of the version that bytes are kept of: by If-Range, and from a server that has no use for that by
   * If-Match. `undefined`: it refuses parts, and may still give the whole.
   */
  async #askPart(identity: RemoteIdentity, ask: Ask): Promise<Reply | undefined> {
    const asked = rangeConditions(identity, this.#byMatch)
    const reply = await this.#options.remote
      .get({ ...ask, conditions: { ...ask.conditions, ...asked } })
      .catch((error: unknown) => {
        if (refusesPart(error)) return undefined
        throw error
      })
    const isWhole = reply?.kind === 'file' && reply.file.offset !== ask.range?.start
    // If-Range never makes a 412, and is answered by the whole file only where that is another one (RFC 9110, 13.1.5).
    const isMisread =
      reply === undefined || reply.kind === 'changed' || (isWhole && isSameVersion(identity, reply.file.identity))
    if (!('if-range' in asked) || !isMisread) return reply
    if (reply?.kind === 'file') reply.file.discard()
    this.#byMatch = true
    return this.#askPart(identity, ask)
  }

  async #fillNew(remote: RemoteFile, patience: TransferPatience): Promise<PartialFile> {
    const { head, body } = await beginningOf(remote.body, ggufHeaderBytes)
    const start = Buffer.concat(head)
    const why = whyNotGguf(start)
    // A partial that the answer does not continue stays until the answer has shown that it is the file, and not, say, a
    // login page that some network puts in its place.
    if (why) throw this.#errors.notGguf(why, remote)
    this.#checkSize(remote.identity.bytes)
    await this.#makeRoom()
    await this.#startOver()
    this.#joined = 'one answer'
    const { destination } = this.#options
    this.#partial = await PartialFile.create(destination, this.#source, remote.identity)
    if (this.#promised !== undefined) await this.#partial.takeRoom(this.#promised)
    return this.#fillIn(this.#partial, { ...remote, body }, patience)
  }

  async #fillIn(partial: PartialFile, remote: RemoteFile, patience: TransferPatience): Promise<PartialFile> {
    const total = this.#promised
    const early = new EarlyCheck(partial.path, remote.identity.bytes)
    const connections = this.#connectionsFor(partial, remote)
    if (remote.offset > 0 || connections > 1) this.#noteJoined(partial.identity, remote.identity)
    const lanes = new Lanes({
      total,
      missing: partial.missing(total ?? Number.POSITIVE_INFINITY),
      connections,
      all: this.#options.connections !== undefined,
      signal: patience.signal,
      open: (stretch, signal) => this.#openStretch(partial, stretch, signal),
      write: async (position, chunks) => {
        await partial.write(position, chunks)
        this.#progress.advance(partial.kept, total)
        const why = await early.look(partial.frontier)
        if (why !== undefined) throw this.#errors.notGguf(why, remote)
      },
      writesAtOnce: 2,
      onReceived: (bytes) => {
        this.#received += bytes
        patience.renew(bytes)
        if (total === undefined && partial.kept > early.limit) throw this.#errors.endless(early.limit)
      },
      speedLimit: this.#options.speedLimit,
      empty: ({ start }) => this.#errors.ended(start, this.#promised),
      tooLong: () => this.#errors.wrongSize(`more than ${this.#promised}`, this.#promised ?? 0),
    })
    try {
      await lanes.run(remote)
    } catch (error) {
      // What came is wrong, and so is what it was added to.
      if (error instanceof ModelDownloadError && wrong.has(error.code)) await this.#startOver()
      throw error
    }
    return this.#complete(partial, remote)
  }

  /** What the partial has taken is there for the file, whether the partial is gone on with or makes room for another. */
  async #makeRoom(): Promise<void> {
    const taken = (await this.#partial?.allocatedBytes()) ?? 0
    await this.#options.makeRoom((this.#promised ?? 0) - taken)
  }

  #connectionsFor({ identity }: PartialFile, remote: RemoteFile): number {
    const isSure = strengthOf(identity) === 'sha256' || strengthOf(identity) === 'etag'
    const isLarge = (identity.bytes ?? 0) >= minSegmentedBytes
    if (this.#isInOnePiece || !isSure || !isLarge || !remote.hasRanges) return 1
    return this.#options.connections ?? mostConnections
  }

  async #openStretch(partial: PartialFile, stretch: Extent, signal: AbortSignal): Promise<RemoteFile> {
    const { identity } = partial
    const reply = await this.#askPart(identity, { range: stretch, signal })
    if (reply?.kind === 'file') {
      const { file } = reply
      if (file.offset === stretch.start && isSameVersion(identity, file.identity)) {
        this.#noteJoined(identity, file.identity)
        return file
      }
      file.discard()
    }
    throw new UnusableRangeError()
  }

  /** What a wrong result may come from. Not that there were several answers, as long as all were of one version. */
  #noteJoined(kept: RemoteIdentity, answer: RemoteIdentity): void {
    if (this.#joined === 'several versions') return
    if (kept.etag !== answer.etag || kept.lastModified !== answer.lastModified) this.#joined = 'several versions'
    else this.#joined = strengthOf(kept) === 'date' ? 'by date' : 'one version'
  }

  async #complete(partial: PartialFile, { identity, hasFraming }: RemoteFile): Promise<PartialFile> {
    const { kept } = partial
    // Where the size is only the caller's word, a body that has ended is all there is.
    const promised = hasFraming ? identity.bytes : this.#promised
    const wanted = this.#source.bytes
    // Also an honest server may end early: it may answer a range with a shorter one.
    if (promised !== undefined && kept < promised) throw this.#errors.ended(kept, this.#promised)
    if (wanted !== undefined && kept !== wanted) {
      await this.#startOver()
      throw this.#errors.wrongSize(String(kept), wanted)
    }
    return partial
  }

  /** A partial of another source that was tried in vain stays for that source. */
  async #startOver(): Promise<void> {
    const partial = this.#partial
    this.#partial = undefined
    this.#resumed = 0
    await (partial?.isOf(this.#source) === false ? partial.giveBack() : partial?.drop())
  }

  #checkSize(bytes: number | undefined): void {
    const wanted = this.#source.bytes
    if (bytes !== undefined && wanted !== undefined && bytes !== wanted)
      throw this.#errors.wrongSize(String(bytes), wanted)
  }
}

/** Whether it is the condition or the range that the server can't cope with, by the status: the file may still be had. */
function refusesPart(error: unknown): boolean {
  return error instanceof ModelDownloadError && [400, 405, 501].includes(error.status ?? 0)
}

/** Reads until so many bytes are there, or all. `body` has them again. */
async function beginningOf(
  body: AsyncIterable<readonly Buffer[]>,
  bytes: number,
): Promise<{ head: readonly Buffer[]; body: AsyncIterable<readonly Buffer[]> }> {
  const rest = body[Symbol.asyncIterator]()
  const head: Buffer[] = []
  let has = 0
  while (has < bytes) {
    const { done, value } = await rest.next()
    if (done) break
    head.push(...value)
    has += bytesOf(value)
  }
  const again = async function* () {
    try {
      yield head
      for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value
    } finally {
      await rest.return?.()
    }
  }
  return { head, body: again() }
}
