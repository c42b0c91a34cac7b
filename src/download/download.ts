// One file, from a source to its final name. Whoever calls this should hold a lock, so that the bytes are fetched once;
// that nothing wrong is ever published does not depend on it (see partial.ts and publish.ts).
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { abortable } from './disk/abortable.ts'
import { bytesOf } from './disk/chunks.ts'
import { onDisk } from './disk/files.ts'
import { checkFreeSpace } from './disk/free-space.ts'
import { ModelDownloadError, type ModelDownloadErrorCode, notHere } from './errors.ts'
import { ggufHeaderBytes, whyNotGguf } from './gguf/header.ts'
import { checkGguf } from './gguf/structure.ts'
import { type Connections, openConnections } from './http/connections.ts'
import { isTransient, Remote, type RemoteFile, UnusableRangeError } from './http/remote.ts'
import { Lanes } from './lanes.ts'
import type { Extent } from './partial/extents.ts'
import { PartialFile } from './partial/file.ts'
import {
  type DeadOwner,
  dropLeftovers,
  findLeftovers,
  isResumable,
  isSameRemote,
  type Leftover,
  mayResume,
} from './partial/record.ts'
import { dropRejected } from './partial/rejected.ts'
import { type DownloadProgress, ProgressReporter } from './progress.ts'
import { readManifest, writeManifest } from './published/manifest.ts'
import { publish } from './published/publish.ts'
import { asPublished, findPublished, fromCache, type PublishedFile, readContent } from './published/verify.ts'
import type { ResolvedSource } from './source/parse.ts'

/**
 * - `if-missing`: a file that is there is taken as it is.
 * - `always`: the server is asked whether it has another version by now (ETag, or the hash that the hub tells). If so that
 *   replaces the file; whoever has the old one open keeps it.
 * - `never`: no server is asked.
 */
export type FetchPolicy = 'if-missing' | 'always' | 'never'

export interface DownloadOptions {
  /** From `resolveSource`. */
  readonly source: ResolvedSource
  /** Absolute path of the published file. Its folder is created where it is missing. */
  readonly destination: string
  /** Rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  /** Default `if-missing`; see `FetchPolicy`. */
  readonly fetch?: FetchPolicy | undefined
  /** Whether an abort leaves what was received, to be resumed. Default true. */
  readonly keepPartial?: boolean | undefined
  /** Hash a file that is there already before trusting it. For a caller who knows that an earlier owner crashed. */
  readonly verifyAgain?: boolean | undefined
  /** Whose partials are free to be taken, though its process may still run: the owner that the caller's lock was abandoned by. */
  readonly deadOwner?: DeadOwner | undefined
  /** Default: an agent of this download's own. */
  readonly dispatcher?: Dispatcher | undefined
  /** Waits before the tries that follow a failure which kept no new byte. Default 1 s, 2 s, 4 s. */
  readonly retryDelaysMs?: readonly number[] | undefined
  /** How long a server may send nothing. Default 30 s. */
  readonly stallMs?: number | undefined
  /** How many connections to use. Default: as many as make it faster, up to 8. */
  readonly connections?: number | undefined
}

const defaultRetryDelaysMs = [1_000, 2_000, 4_000]
export const defaultStallMs = 30_000
const mostConnections = 8
/** A smaller file is there before a second connection would help. */
const minSegmentedBytes = 16 * 1024 * 1024

/**
 * Publishes the source's file at `destination`, or finds it there. Resumes what an earlier call left, where that is
 * provably the beginning of the same file.
 *
 * @throws {ModelDownloadError} see there; on any failure nothing new is under the final name.
 */
export async function downloadFile(options: DownloadOptions): Promise<PublishedFile> {
  options.signal?.throwIfAborted()
  const download = new Download(options)
  try {
    return await download.run()
  } catch (error) {
    await download.letGo(error)
    throw options.signal?.aborted ? options.signal.reason : error
  } finally {
    download.close()
  }
}

/** What is wrong with a file that came whole. */
interface Fault {
  readonly code: ModelDownloadErrorCode
  /** Of the file, for people. */
  readonly what: string
}

class Download {
  readonly #options: DownloadOptions
  readonly #source: ResolvedSource
  readonly #destination: string
  readonly #progress: ProgressReporter
  readonly #line: Connections
  readonly #remote: Remote
  #partial: PartialFile | undefined
  #resumed = 0
  #received = 0
  /** The partial holds bytes of more than one response, so a wrong hash may come from joining them. */
  #joined = false
  /** The file is to come by one response, since joining several has failed. */
  #inOnePiece = false
  /** Size of the whole file by the last answer's word. */
  #promised: number | undefined

  constructor(options: DownloadOptions) {
    this.#options = options
    this.#source = options.source
    this.#destination = options.destination
    this.#progress = new ProgressReporter(options.onProgress)
    const stallMs = options.stallMs ?? defaultStallMs
    this.#line = openConnections(options.dispatcher, stallMs)
    const { dispatcher } = this.#line
    this.#remote = new Remote(options.source, { dispatcher, signal: options.signal, stallMs })
  }

  async run(): Promise<PublishedFile> {
    this.#progress.enter('resolving', 0, this.#source.bytes)
    const folder = dirname(this.#destination)
    await onDisk('creating', folder, mkdir(folder, { recursive: true }))
    const leftovers = await findLeftovers(this.#destination, this.#options.deadOwner)
    const there = await this.#trustExisting()
    if (there) {
      await dropLeftovers(this.#destination, leftovers)
      this.#progress.finish(there.bytes)
      return there
    }
    if (this.#options.fetch === 'never') throw notHere(this.#destination)
    await this.#adopt(leftovers)
    const { partial, sha256 } = await this.#fetchRight()
    this.#progress.enter('publishing', partial.kept, partial.kept)
    const manifest = await publish(partial, this.#source, sha256, this.#options.signal)
    this.#partial = undefined
    await dropRejected(this.#destination)
    this.#progress.finish(manifest.bytes)
    const call = { cached: false, downloadedBytes: this.#received, resumedBytes: this.#resumed }
    return asPublished(this.#destination, manifest, call)
  }

  /** On the way out with an error: the partial stays for the next try, unless it is unwanted or the remote file is gone. */
  async letGo(error: unknown): Promise<void> {
    const partial = this.#partial
    const isGone = error instanceof ModelDownloadError && (error.status === 404 || error.status === 410)
    const isUnwanted = this.#options.signal?.aborted === true && this.#options.keepPartial === false
    await (isGone || isUnwanted ? partial?.drop() : partial?.giveBack())
  }

  close(): void {
    this.#line.close()
  }

  /**
   * A file under the final name that is what the source asks for, if there is one. One that has no manifest, or not the
   * manifest's size and mtime, is hashed and adopted if it has the hash that the caller, the manifest or the hub names.
   * Without any hash nothing could tell it from a broken file of the right size: it is fetched again, and replaced.
   */
  async #trustExisting(): Promise<PublishedFile | undefined> {
    const published = await findPublished(this.#destination, this.#source)
    if (published && this.#options.fetch === 'always' && !(await this.#isCurrent(published))) return undefined
    if (published && !this.#options.verifyAgain) return published
    const stats = await stat(this.#destination).catch(() => undefined)
    if (!stats) return undefined
    if (!stats.isFile()) {
      const message = `${this.#destination} is not a file, so no model can be published there; move it away`
      throw new ModelDownloadError('ERR_MODEL_FILE_SYSTEM', message, { path: this.#destination })
    }
    const manifest = await readManifest(this.#destination)
    const known = manifest?.sourceKey === this.#source.key ? manifest : undefined
    const bytes = this.#source.bytes ?? known?.bytes
    if (bytes !== undefined && bytes !== stats.size) return undefined
    const expected = this.#source.sha256 ?? known?.sha256 ?? (await this.#askForHash(stats.size))
    if (expected === undefined) return undefined

    this.#progress.enter('verifying', 0, stats.size)
    const content = await readContent(this.#destination, {
      signal: this.#options.signal,
      onBytes: (done) => this.#progress.advance(done, stats.size),
    })
    if (content?.sha256 !== expected) return undefined
    if (published) return published
    const adopted = {
      version: 1,
      ...content,
      source: this.#source.label,
      sourceKey: this.#source.key,
      ...(known?.etag !== undefined && { etag: known.etag }),
      publishedAt: Date.now(),
    } as const
    await writeManifest(this.#destination, adopted)
    return asPublished(this.#destination, adopted, fromCache)
  }

  /** Whether the server still has this version, or the caller has said by its hash that it is the right one. */
  async #isCurrent(published: PublishedFile): Promise<boolean> {
    if (this.#source.sha256 !== undefined) return true
    const remote = await this.#remote.head().catch((error: unknown) => {
      // Some servers have no HEAD. What they have is fetched then, to be sure.
      if (error instanceof ModelDownloadError && error.code === 'ERR_MODEL_HTTP_STATUS') return undefined
      throw error
    })
    if (remote?.sha256 !== undefined) return remote.sha256 === published.sha256
    return remote?.etag !== undefined && remote.etag === published.etag && remote.bytes === published.bytes
  }

  /** The hub tells a file's hash; most servers don't. Failing here is no error: the GET that follows tells it better. */
  async #askForHash(size: number): Promise<string | undefined> {
    if (this.#options.fetch === 'never') return undefined
    const identity = await this.#remote.head().catch(() => undefined)
    this.#options.signal?.throwIfAborted()
    return identity?.bytes === undefined || identity.bytes === size ? identity?.sha256 : undefined
  }

  async #adopt(leftovers: readonly Leftover[]): Promise<void> {
    const useless: Leftover[] = []
    for (const leftover of leftovers) {
      if (this.#partial || !mayResume(leftover, this.#source)) {
        useless.push(leftover)
        continue
      }
      this.#partial = await PartialFile.adopt(this.#destination, this.#source, leftover, this.#options.signal)
    }
    await dropLeftovers(this.#destination, useless)
    this.#resumed = this.#partial?.kept ?? 0
  }

  /** The whole file, checked. One that is wrong and was joined from pieces gets one more try in one piece. */
  async #fetchRight(): Promise<{ partial: PartialFile; sha256: string }> {
    for (let tries = 1; ; tries++) {
      const partial = await this.#fetchAll()
      const sha256 = await this.#hashed(partial)
      const fault = await this.#faultOf(partial, sha256)
      if (fault === undefined) return { partial, sha256 }
      if (!this.#joined || tries > 1) throw await this.#rejected(partial, sha256, fault)
      await this.#startOver()
      this.#inOnePiece = true
    }
  }

  async #faultOf(partial: PartialFile, sha256: string): Promise<Fault | undefined> {
    const expected = this.#source.sha256 ?? partial.identity.sha256
    if (expected !== undefined && sha256 !== expected) {
      return { code: 'ERR_MODEL_HASH_MISMATCH', what: `has the SHA-256 ${sha256} instead of ${expected}` }
    }
    const why = await checkGguf(partial.path)
    return why === undefined ? undefined : { code: 'ERR_MODEL_NOT_GGUF', what: `is not a whole GGUF model: ${why}` }
  }

  async #rejected(partial: PartialFile, sha256: string, { code, what }: Fault): Promise<ModelDownloadError> {
    const { label } = this.#source
    this.#partial = undefined
    const path = await partial.reject({ reason: `it ${what}`, source: label, sha256 })
    const where = path === undefined ? 'it was not kept' : `it was not published, and is kept as ${path} for a look`
    return new ModelDownloadError(code, `${label} ${what}; ${where}`, { url: label, path })
  }

  /** Most of it was hashed while it came. */
  async #hashed(partial: PartialFile): Promise<string> {
    const total = partial.kept
    this.#progress.enter('verifying', partial.hashed, total)
    return partial.digest({
      signal: this.#options.signal,
      onBytes: (done) => this.#progress.advance(done, total),
    })
  }

  /** Gets byte after byte until all are there. Failures count only as long as no new byte is kept. */
  async #fetchAll(): Promise<PartialFile> {
    const delays = this.#options.retryDelaysMs ?? defaultRetryDelaysMs
    let farthest = this.#partial?.kept ?? 0
    let failures = 0
    for (;;) {
      try {
        return await this.#fetchOnce()
      } catch (error) {
        this.#options.signal?.throwIfAborted()
        // The server has another version by now, or no ranges after all: the whole file then, at once, and by one answer.
        const isUnusable = error instanceof UnusableRangeError
        if (!isUnusable && !isTransient(error)) throw error
        // The farthest so far, not the last: a transfer that has to begin again each time gets nowhere.
        const kept = this.#partial?.kept ?? 0
        if (kept > farthest) failures = 0
        farthest = Math.max(farthest, kept)
        const delay = delays[failures++]
        if (isUnusable) {
          if (delay === undefined) throw this.#unusable()
          this.#inOnePiece = true
          continue
        }
        if (delay === undefined) throw error
        const delayMs = error.retryAfterMs ?? delay * (0.75 + Math.random() / 2)
        await sleep(delayMs, undefined, this.#options.signal && { signal: this.#options.signal })
      }
    }
  }

  #unusable(): ModelDownloadError {
    const { label } = this.#source
    const message = `${label} answers requests for parts of it now with one thing and now with another; what was received stays`
    return new ModelDownloadError('ERR_MODEL_BAD_RESPONSE', message, { url: label })
  }

  async #fetchOnce(): Promise<PartialFile> {
    const remote = await this.#openRest()
    try {
      const taken = (remote.offset > 0 && (await this.#partial?.allocatedBytes())) || 0
      await checkFreeSpace(this.#destination, (this.#promised ?? this.#source.bytes ?? 0) - taken)
      // A partial that the answer does not continue stays until the answer has shown that it is the file, and not, say,
      // a login page that some network puts in its place.
      const partial = remote.offset > 0 ? this.#partial : undefined
      return await (partial ? this.#fillIn(partial, remote) : this.#fillNew(remote))
    } finally {
      remote.discard()
    }
  }

  async #fillNew(remote: RemoteFile): Promise<PartialFile> {
    const { head, body } = await beginningOf(remote.body, ggufHeaderBytes)
    const start = Buffer.concat(head)
    if (start.length < ggufHeaderBytes) throw this.#notGguf(`it ends after ${start.length} bytes`, remote)
    this.#refuse(start, remote)
    await this.#startOver()
    const { bytes } = remote.identity
    const inSegments =
      this.#connections() > 1 &&
      remote.hasRanges &&
      isResumable(remote.identity) &&
      bytes !== undefined &&
      bytes >= minSegmentedBytes
    const partial = await PartialFile.create(this.#destination, this.#source, remote.identity, inSegments)
    this.#partial = partial
    return this.#fillIn(partial, { ...remote, body })
  }

  /** `answer` begins where the partial's first gap does. */
  async #fillIn(partial: PartialFile, answer: RemoteFile): Promise<PartialFile> {
    const total = this.#promised ?? this.#source.bytes
    if (total !== undefined) await abortable(partial.takeRoom(total), this.#options.signal)
    const missing = partial.missing(total ?? Number.POSITIVE_INFINITY)
    const lanes = new Lanes({
      total,
      missing,
      connections: partial.inSegments ? this.#connections() : 1,
      all: this.#options.connections !== undefined,
      signal: this.#options.signal,
      open: (stretch, signal) => this.#openStretch(partial, stretch, signal),
      write: async (position, chunks) => {
        await partial.write(position, chunks)
        this.#progress.advance(partial.kept, total)
      },
      // Without a map the size is how far it got: nothing may be written behind what is not there yet.
      writesAtOnce: partial.inSegments ? 2 : 1,
      onReceived: (bytes) => {
        this.#received += bytes
      },
      empty: ({ start, end }) => {
        const { label: url } = this.#source
        const message = `${url} answered a request for the bytes from ${start} to ${end} with none of them`
        return new ModelDownloadError('ERR_MODEL_NETWORK', message, { url })
      },
      tooLong: () => this.#sizeMismatch(`more than ${total}`, total ?? 0),
    })
    try {
      await lanes.run(answer)
    } catch (error) {
      if (error instanceof ModelDownloadError && error.code === 'ERR_MODEL_SIZE_MISMATCH') await this.#startOver()
      throw error
    }
    return this.#complete(partial)
  }

  #connections(): number {
    return this.#inOnePiece ? 1 : (this.#options.connections ?? mostConnections)
  }

  async #openStretch(partial: PartialFile, { start, end }: Extent, signal: AbortSignal): Promise<RemoteFile> {
    const answer = await this.#remote.get({ start, end, etag: partial.identity.etag }, signal)
    this.#joined = true
    if (answer.offset === start && isSameRemote(partial.identity, answer.identity)) return answer
    answer.discard()
    throw new UnusableRangeError()
  }

  /** Opens an answer whose bytes continue the partial or, when its offset is 0, are the whole file. */
  async #openRest(): Promise<RemoteFile> {
    const rest = await this.#openGap()
    const remote = rest ?? (await this.#remote.get())
    this.#joined = remote.offset > 0
    this.#promised = remote.identity.bytes
    const kept = remote.offset > 0 ? (this.#partial?.kept ?? 0) : 0
    this.#progress.enter('downloading', kept, this.#promised ?? this.#source.bytes)
    return remote
  }

  /** The partial's first gap, if the server still has the file that it is a part of. */
  async #openGap(): Promise<RemoteFile | undefined> {
    const partial = this.#partial
    if (!partial || !isResumable(partial.identity)) return undefined
    const total = partial.identity.bytes ?? Number.POSITIVE_INFINITY
    const gap = partial.missing(total)[0]
    if (gap === undefined || gap.start === 0) return undefined
    const end = gap.end < total ? gap.end : undefined
    const rest = await this.#remote.get({ start: gap.start, end, etag: partial.identity.etag }).catch((error) => {
      if (error instanceof UnusableRangeError) return undefined
      throw error
    })
    if (rest === undefined || rest.offset === 0 || isSameRemote(partial.identity, rest.identity)) return rest
    rest.discard()
    return undefined
  }

  async #startOver(): Promise<void> {
    await this.#partial?.drop()
    this.#partial = undefined
    this.#resumed = 0
  }

  async #complete(partial: PartialFile): Promise<PartialFile> {
    const { kept } = partial
    const promised = this.#promised
    const wanted = this.#source.bytes
    // Also an honest server may end early: it may answer a range with a shorter one.
    if (promised !== undefined && kept < promised) {
      const message = `${this.#source.label} ended after ${kept} of ${promised} bytes`
      throw new ModelDownloadError('ERR_MODEL_NETWORK', message, { url: this.#source.label })
    }
    if (wanted !== undefined && kept !== wanted) {
      await this.#startOver()
      throw this.#sizeMismatch(String(kept), wanted)
    }
    return partial
  }

  #refuse(head: Uint8Array, remote: RemoteFile): void {
    const why = whyNotGguf(head)
    if (why) throw this.#notGguf(why, remote)
    const { bytes } = remote.identity
    const wanted = this.#source.bytes
    if (bytes !== undefined && wanted !== undefined && bytes !== wanted) throw this.#sizeMismatch(String(bytes), wanted)
  }

  #notGguf(why: string, remote: RemoteFile): ModelDownloadError {
    const { label } = this.#source
    const type = remote.contentType === undefined ? '' : ` (the server calls it ${remote.contentType})`
    const message = `What ${label} answers is not a GGUF model: ${why}${type}; nothing of it was kept`
    return new ModelDownloadError('ERR_MODEL_NOT_GGUF', message, { url: label })
  }

  #sizeMismatch(has: string, wanted: number): ModelDownloadError {
    const { label } = this.#source
    const message = `${label} has ${has} bytes instead of ${wanted}; it was not kept`
    return new ModelDownloadError('ERR_MODEL_SIZE_MISMATCH', message, { url: label })
  }
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
