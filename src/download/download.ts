// One file, from a source to its final name. Whoever calls this should hold a lock, so that the bytes are fetched once;
// that nothing wrong is ever published does not depend on it (see partial.ts and publish.ts).
import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Dispatcher } from 'undici'
import { ModelDownloadError } from './errors.ts'
import { onDisk } from './file-system.ts'
import { checkFreeSpace } from './free-space.ts'
import { ggufHeaderBytes, whyNotGguf } from './gguf-check.ts'
import { readManifest, writeManifest } from './manifest.ts'
import {
  dropLeftovers,
  findLeftovers,
  isResumable,
  isSameRemote,
  type Leftover,
  mayResume,
  PartialFile,
} from './partial.ts'
import { type DownloadProgress, ProgressReporter } from './progress.ts'
import { publish } from './publish.ts'
import { asPublished, findPublished, fromCache, type PublishedModel, readContent } from './published.ts'
import type { ResolvedSource } from './source.ts'
import { isTransient, Remote, type RemoteFile, UnusableRangeError } from './transfer.ts'

export interface DownloadOptions {
  /** From `resolveSource`. */
  readonly source: ResolvedSource
  /** Absolute path of the published file. Its folder is created where it is missing. */
  readonly destination: string
  /** Rejects with `signal.reason`; what was received stays to be resumed. */
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  /** Hash a file that is there already before trusting it. For a caller who knows that an earlier owner crashed. */
  readonly verifyAgain?: boolean | undefined
  /** Default: an agent of this download's own. */
  readonly dispatcher?: Dispatcher | undefined
  /** Waits before the tries that follow a failure which kept no new byte. Default 1 s, 2 s, 4 s. */
  readonly retryDelaysMs?: readonly number[] | undefined
  /** How long a server may send nothing. Default 30 s. */
  readonly stallMs?: number | undefined
}

const defaultRetryDelaysMs = [1_000, 2_000, 4_000]
const defaultStallMs = 30_000

/**
 * Publishes the source's file at `destination`, or finds it there. Resumes what an earlier call left, where that is
 * provably the beginning of the same file.
 *
 * @throws {ModelDownloadError} see there; on any failure nothing new is under the final name.
 */
export async function downloadFile(options: DownloadOptions): Promise<PublishedModel> {
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

class Download {
  readonly #options: DownloadOptions
  readonly #source: ResolvedSource
  readonly #destination: string
  readonly #progress: ProgressReporter
  readonly #remote: Remote
  #partial: PartialFile | undefined
  #resumed = 0
  #received = 0
  /** The partial holds bytes of more than one response, so a wrong hash may come from joining them. */
  #joined = false
  /** Size of the whole file by the last answer's word. */
  #promised: number | undefined

  constructor(options: DownloadOptions) {
    this.#options = options
    this.#source = options.source
    this.#destination = options.destination
    this.#progress = new ProgressReporter(options.onProgress)
    this.#remote = new Remote(options.source, {
      dispatcher: options.dispatcher,
      signal: options.signal,
      stallMs: options.stallMs ?? defaultStallMs,
    })
  }

  async run(): Promise<PublishedModel> {
    this.#progress.enter('resolving', 0, this.#source.bytes)
    const folder = dirname(this.#destination)
    await onDisk('creating', folder, mkdir(folder, { recursive: true }))
    const leftovers = await findLeftovers(this.#destination)
    const there = await this.#trustExisting()
    if (there) {
      await dropLeftovers(this.#destination, leftovers)
      this.#progress.finish(there.bytes)
      return there
    }
    await this.#adopt(leftovers)
    const { partial, sha256 } = await this.#fetchRight()
    this.#progress.enter('publishing', partial.kept, partial.kept)
    const manifest = await publish(partial, this.#source, sha256, this.#options.signal)
    this.#partial = undefined
    this.#progress.finish(manifest.bytes)
    const call = { cached: false, downloadedBytes: this.#received, resumedBytes: this.#resumed }
    return asPublished(this.#destination, manifest, call)
  }

  /** On the way out with an error: the partial stays for the next try, unless the remote file is gone. */
  async letGo(error: unknown): Promise<void> {
    const partial = this.#partial
    const gone = error instanceof ModelDownloadError && (error.status === 404 || error.status === 410)
    await (gone ? partial?.drop() : partial?.giveBack())
  }

  close(): void {
    this.#remote.close()
  }

  /**
   * A file under the final name that is what the source asks for, if there is one. One that has no manifest, or not the
   * manifest's size and mtime, is hashed and adopted if it has the hash that the caller, the manifest or the hub names.
   * Without any hash nothing could tell it from a broken file of the right size: it is fetched again, and replaced.
   */
  async #trustExisting(): Promise<PublishedModel | undefined> {
    const published = await findPublished(this.#destination, this.#source)
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

  /** The hub tells a file's hash; most servers don't. Failing here is no error: the GET that follows tells it better. */
  async #askForHash(size: number): Promise<string | undefined> {
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
      this.#progress.enter('verifying', 0, leftover.record.bytes)
      this.#partial = await PartialFile.adopt(this.#destination, this.#source, leftover, {
        signal: this.#options.signal,
        onBytes: (done) => this.#progress.advance(done, leftover.record.bytes),
      })
    }
    await dropLeftovers(this.#destination, useless)
    this.#resumed = this.#partial?.kept ?? 0
  }

  /** The whole file, checked. A wrong hash of joined pieces gets one more try in one piece. */
  async #fetchRight(): Promise<{ partial: PartialFile; sha256: string }> {
    for (;;) {
      const partial = await this.#fetchAll()
      const sha256 = partial.digest()
      const expected = this.#source.sha256 ?? partial.identity.sha256
      if (expected === undefined || sha256 === expected) return { partial, sha256 }
      await this.#startOver()
      if (this.#joined) continue
      const message = `${this.#source.label} has the SHA-256 ${sha256} instead of ${expected}; it was not kept`
      throw new ModelDownloadError('ERR_MODEL_HASH_MISMATCH', message, { url: this.#source.label })
    }
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
        if (!isTransient(error)) throw error
        // The farthest so far, not the last: a transfer that has to begin again each time gets nowhere.
        const kept = this.#partial?.kept ?? 0
        if (kept > farthest) failures = 0
        farthest = Math.max(farthest, kept)
        const delay = delays[failures++]
        if (delay === undefined) throw error
        await sleep(error.retryAfterMs ?? delay, undefined, this.#options.signal && { signal: this.#options.signal })
      }
    }
  }

  async #fetchOnce(): Promise<PartialFile> {
    const remote = await this.#openRest()
    // A partial that the answer does not continue stays until the answer has shown that it is the file, and not, say,
    // a login page that some network puts in its place.
    let target = remote.offset > 0 ? this.#partial : undefined
    let head = Buffer.alloc(0)
    try {
      await checkFreeSpace(this.#destination, (this.#promised ?? this.#source.bytes ?? 0) - remote.offset)
      for await (const chunk of remote.body) {
        this.#received += chunk.length
        if (target) {
          await this.#keep(chunk, target)
          continue
        }
        head = Buffer.concat([head, chunk])
        if (head.length < ggufHeaderBytes) continue
        this.#refuse(head, remote)
        await this.#startOver()
        target = await PartialFile.create(this.#destination, this.#source, remote.identity)
        this.#partial = target
        await this.#keep(head, target)
      }
    } finally {
      remote.discard()
    }
    if (!target) throw this.#notGguf(`it ends after ${head.length} bytes`, remote)
    return this.#complete(target)
  }

  /** Opens an answer whose bytes continue the partial or, when its offset is 0, are the whole file. */
  async #openRest(): Promise<RemoteFile> {
    const partial = this.#partial
    let rest: RemoteFile | undefined
    if (partial && isResumable(partial.identity)) {
      rest = await this.#remote.get({ offset: partial.kept, etag: partial.identity.etag }).catch((error) => {
        if (error instanceof UnusableRangeError) return undefined
        throw error
      })
      if (rest && rest.offset > 0 && !isSameRemote(partial.identity, rest.identity)) {
        rest.discard()
        rest = undefined
      }
    }
    const remote = rest ?? (await this.#remote.get())
    this.#joined = remote.offset > 0
    this.#promised = remote.identity.bytes
    this.#progress.enter('downloading', remote.offset, this.#promised ?? this.#source.bytes)
    return remote
  }

  async #startOver(): Promise<void> {
    await this.#partial?.drop()
    this.#partial = undefined
    this.#resumed = 0
  }

  async #keep(chunk: Uint8Array, partial: PartialFile): Promise<void> {
    const total = this.#promised ?? this.#source.bytes
    if (total !== undefined && partial.kept + chunk.length > total) {
      await this.#startOver()
      throw this.#sizeMismatch(`more than ${total}`, total)
    }
    await partial.write(chunk)
    this.#progress.advance(partial.kept, total)
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
