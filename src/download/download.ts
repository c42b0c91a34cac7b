// One file, from a source to its final name, in steps that whoever downloads a model puts together (model.ts):
//
//   look       is it here already? Whatever is under its name is hashed, or asked about, before it counts as another's
//   fetch      its bytes, from where an earlier call ended (fetch.ts), checked
//   publish    its name
//
// The caller should hold a lock, so that the bytes are fetched once; that nothing wrong is ever published does not depend on
// it (see partial/claim.ts and published/publish.ts).
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { onDisk } from './disk/files.ts'
import { ModelDownloadError, type ModelDownloadErrorCode, notHere } from './errors.ts'
import { Fetch, type Joined } from './fetch.ts'
import { checkGguf } from './gguf/structure.ts'
import { changeConditions } from './http/conditions.ts'
import type { HttpOptions } from './http/http.ts'
import { isSameVersion, strengthOf } from './http/identity.ts'
import type { SpeedLimit } from './http/low-speed.ts'
import { type RemoteLike, remoteOf } from './http/pieces.ts'
import type { RemoteFile } from './http/remote.ts'
import { patiently } from './http/retry.ts'
import { dropLeftover, type Leftover } from './partial/claim.ts'
import { PartialFile, SpoiltPartialError } from './partial/file.ts'
import { findLeftovers, mayResume } from './partial/leftovers.ts'
import { dropDebris, makeRoom } from './partial/room.ts'
import { type DownloadProgress, ProgressReporter } from './progress.ts'
import { lookAtExisting, NameTakenError } from './published/existing.ts'
import { identityOf, type Manifest, manifestVersion, newManifest, noteManifest } from './published/manifest.ts'
import { type Checked, type GuardReplacement, publish, seal } from './published/publish.ts'
import { asPublished, fromCache, lookAtFile, type PublishedFile, readContent } from './published/verify.ts'
import type { ResolvedSource } from './source/parse.ts'

/**
 * - `if-missing`: a file that is there is taken as it is.
 * - `always`: the server is asked whether it has another version by now (ETag, date, or the hash that the hub tells). If so
 *   that replaces the file; whoever has the old one open keeps it.
 * - `never`: no server is asked.
 */
export type FetchPolicy = 'if-missing' | 'always' | 'never'

export interface FileOptions {
  readonly http: HttpOptions
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  readonly fetch: FetchPolicy
  /** Whether a file of another source, or of nobody knows whom, may be replaced. */
  readonly replace: boolean
  /** Whether an abort leaves what was received, to be resumed. */
  readonly keepPartial: boolean
  /** Hash a file that is there already before trusting it. For a caller who knows that an earlier owner crashed. */
  readonly verifyAgain: boolean
  readonly retryDelaysMs: readonly number[]
  readonly speedLimit: SpeedLimit
  readonly patienceMs: number
  readonly firstPatienceMs: number
  /** How many connections to use. Default: as many as make it faster, up to 8. */
  readonly connections: number | undefined
  /** Held while a file is replaced. */
  readonly guard: GuardReplacement | undefined
}

/** What is wrong with a file that came whole. */
interface Fault {
  readonly code: ModelDownloadErrorCode
  /** Of the file, for people. */
  readonly what: string
}

/** Its bytes are here and right, and wait for their name. */
export interface Ready extends Checked {
  readonly manifest: Manifest
}

export class Download {
  readonly source: ResolvedSource
  readonly destination: string
  readonly #existing: string
  readonly #options: FileOptions
  readonly #signal: AbortSignal | undefined
  readonly #progress: ProgressReporter
  readonly #remote: RemoteLike
  /** What is published, and may have another version on its server by now. */
  #published: { readonly file: PublishedFile; readonly manifest: Manifest } | undefined
  /** What `look` has found, and its server was not asked about. */
  #there: { readonly file: PublishedFile; readonly manifest: Manifest } | undefined
  #partial: PartialFile | undefined
  #fetch: Fetch | undefined
  #first: RemoteFile | undefined

  /** `existing`: where its published version is, if that is not where the next one will be. */
  constructor(source: ResolvedSource, destination: string, options: FileOptions, existing = destination) {
    this.source = source
    this.destination = destination
    this.#existing = existing
    this.#options = options
    this.#signal = options.http.signal
    this.#progress = new ProgressReporter(options.onProgress)
    this.#remote = remoteOf(source, options.http)
  }

  /**
   * The file under the name, if it is what the source asks for. One that is not known for it is hashed, if there is a hash to
   * compare it with, or asked about. `undefined`: it has to be fetched.
   *
   * @throws {NameTakenError}
   */
  async look(): Promise<PublishedFile | undefined> {
    const { fetch, replace, verifyAgain } = this.#options
    this.#progress.enter('resolving', 0, this.source.bytes)
    const existing = await lookAtExisting(this.#existing, this.source)
    switch (existing.kind) {
      case 'none':
      case 'outdated':
        return undefined
      case 'right': {
        const { file, manifest } = existing
        if (verifyAgain && !(await this.#isStill(manifest))) return undefined
        // The caller's hash says that it is the right one, whatever the server has.
        if (fetch !== 'always' || this.source.sha256 !== undefined) {
          await dropDebris(this.destination)
          this.#there = { file, manifest }
          return this.#found(file)
        }
        this.#published = { file, manifest }
        return undefined
      }
      case 'changed': {
        const expected = this.source.sha256 ?? existing.manifest.sha256
        const content = await this.#contentOf(existing.bytes)
        if (content?.sha256 === expected) return this.#adopt({ ...existing.manifest, ...content })
        // A whole model of another size is what somebody has put there.
        const isOthers = content !== undefined && content.bytes !== existing.manifest.bytes
        if (isOthers && !replace) throw new NameTakenError(this.#existing, this.source, undefined)
        return undefined
      }
      case 'other': {
        const proved = await this.#provedEqual(existing.manifest, existing.bytes)
        if (proved) return proved
        if (!replace) throw new NameTakenError(this.#existing, this.source, existing.manifest)
        return undefined
      }
    }
  }

  /** Makes `fetch` ask whether what `look` has found is still the server's version. False: there is nothing to ask about. */
  askAgain(): boolean {
    this.#published ??= this.#there
    return this.#published !== undefined
  }

  /** Its size, as far as that can be told before its first byte is asked for. The answer is the first of `fetch`. */
  async size(): Promise<number | undefined> {
    if (this.#published) return this.#published.manifest.bytes
    // What its first answer said. To ask again would bring bytes that are here.
    const [left] = await this.#resumable()
    if (left?.record.bytes !== undefined) return left.record.bytes
    const reply = await patiently(
      () => this.#remote.get({ range: { start: 0 } }),
      this.#options.retryDelaysMs,
      this.#signal,
    )
    if (reply.kind !== 'file') return undefined
    this.#first = reply.file
    return reply.file.identity.bytes
  }

  /** How many of its bytes an earlier download left. */
  async here(): Promise<number> {
    return (await this.#resumable())[0]?.extents.bytes ?? 0
  }

  /** Whether the server still has the version that `fetch` has given. True also where nothing can tell. */
  async isStillThere(got: PublishedFile | Ready): Promise<boolean> {
    const known = 'manifest' in got ? got.partial.identity : this.#published && identityOf(this.#published.manifest)
    if (known === undefined || strengthOf(known) === 'none') return true
    const ask = () => this.#remote.get({ known, conditions: changeConditions(known) })
    const reply = await patiently(ask, this.#options.retryDelaysMs, this.#signal)
    if (reply.kind !== 'file') return true
    reply.file.discard()
    return isSameVersion(known, reply.file.identity)
  }

  /** All of it, checked, and made durable; or what is published, when the server has no other. */
  async fetch(): Promise<PublishedFile | Ready> {
    if (this.#options.fetch === 'never') throw notHere(this.destination)
    const folder = dirname(this.destination)
    await onDisk('creating', folder, mkdir(folder, { recursive: true }))
    await this.#adoptLeftover()
    this.#fetch = new Fetch({ ...this.#fetchOptions(), partial: this.#partial, first: this.#first })
    // Both are its own now: what it drops, no later one may go on with.
    this.#first = this.#partial = undefined
    const ready = await this.#fetchRight(this.#fetch)
    if (!('manifest' in ready)) {
      await this.#fetch.partial?.drop()
      return this.#found(ready)
    }
    this.#progress.enter('publishing', ready.partial.kept, ready.partial.kept)
    return ready
  }

  async publish(ready: Ready): Promise<PublishedFile> {
    await publish(ready, ready.manifest, { guard: this.#options.guard, signal: this.#signal })
    return this.published(ready)
  }

  /** After `ready` has got its name. */
  async published({ manifest }: Ready, path = this.destination): Promise<PublishedFile> {
    const call = { cached: false, downloadedBytes: this.#received, resumedBytes: this.#fetch?.resumed ?? 0 }
    this.#fetch = undefined
    await dropDebris(this.destination)
    this.#progress.finish(manifest.bytes)
    return asPublished(path, manifest, call)
  }

  /** On the way out with an error: what was received stays for the next try, unless it is unwanted. */
  async letGo(): Promise<void> {
    this.#first?.discard()
    const partial = this.#fetch ? this.#fetch.partial : this.#partial
    const isUnwanted = this.#signal?.aborted === true && !this.#options.keepPartial
    await (isUnwanted ? partial?.drop() : partial?.giveBack())
  }

  get #received(): number {
    return this.#fetch?.received ?? 0
  }

  #found(file: PublishedFile): PublishedFile {
    this.#progress.finish(file.bytes)
    return file
  }

  async #isStill(manifest: Manifest): Promise<boolean> {
    const content = await this.#contentOf(manifest.bytes)
    return content?.sha256 === manifest.sha256
  }

  async #contentOf(bytes: number) {
    this.#progress.enter('verifying', 0, bytes)
    return readContent(this.#existing, {
      signal: this.#signal,
      onBytes: (done) => this.#progress.advance(done, bytes),
    })
  }

  async #adopt(manifest: Manifest): Promise<PublishedFile> {
    const noted = { ...manifest, version: manifestVersion, publishedAt: Date.now() }
    await noteManifest(this.#existing, noted)
    return this.#found(asPublished(this.#existing, noted, fromCache))
  }

  /**
   * A file that is not known for this source may still be what it asks for. By a hash: the caller's, or the hub's. By the
   * server's word that nothing has changed, where the two sources differ in their query only. By size and structure, where
   * nothing is known of the file at all.
   */
  async #provedEqual(manifest: Manifest | undefined, bytes: number): Promise<PublishedFile | undefined> {
    const { sha256, bytes: wanted } = this.source
    if (wanted !== undefined && wanted !== bytes) return undefined
    if (sha256 !== undefined) return this.#ifItHas(sha256, bytes)
    if (this.#options.fetch === 'never') return manifest === undefined ? this.#ifWhole(bytes) : undefined
    const isSamePlace = manifest?.placeKey !== undefined && manifest.placeKey === this.source.placeKey
    const known = isSamePlace ? identityOf(manifest) : undefined
    const ask = () => this.#remote.get({ known, conditions: changeConditions(known) })
    const reply = await patiently(ask, this.#options.retryDelaysMs, this.#signal).catch((error: unknown) => {
      throw manifest === undefined ? this.#alsoThere(error) : error
    })
    if (reply.kind === 'unchanged' && manifest) return this.#alsoOf(manifest)
    if (reply.kind !== 'file') return undefined
    reply.file.discard()
    const { identity } = reply.file
    if (identity.bytes !== undefined && identity.bytes !== bytes) return undefined
    if (identity.sha256 !== undefined) return this.#ifItHas(identity.sha256, bytes)
    return manifest === undefined && identity.bytes !== undefined ? this.#ifWhole(bytes) : undefined
  }

  async #ifItHas(sha256: string, bytes: number): Promise<PublishedFile | undefined> {
    const content = await this.#contentOf(bytes)
    if (content?.sha256 !== sha256) return undefined
    return this.#adopt({ ...newManifest(this.source, { ...content, sha256 }, {}), isAdopted: true })
  }

  /** What another program has put there, by the name that this source has. */
  async #ifWhole(bytes: number): Promise<PublishedFile | undefined> {
    const file = await lookAtFile(this.#existing)
    if (file === undefined || file.why !== undefined || file.bytes !== bytes) return undefined
    const { label } = this.source
    return this.#found({ path: this.#existing, bytes, source: label, publishedAt: file.mtimeMs, ...fromCache })
  }

  /** The error of a server that could not be asked about the file, which may well be the right one. */
  #alsoThere(error: unknown): unknown {
    if (!(error instanceof ModelDownloadError)) return error
    const { code, url, status, retryAfterMs, cause } = error
    const path = this.#existing
    const advice = "with `fetch: 'never'` it is used as it is, with a `sha256` it is compared"
    const message = `${error.message}. ${path} is there, but nobody knows of which source: ${advice}`
    return new ModelDownloadError(code, message, { url, path, status, retryAfterMs, cause })
  }

  async #alsoOf(manifest: Manifest): Promise<PublishedFile> {
    const otherKeys = [...(manifest.otherKeys ?? []), this.source.key]
    return this.#adopt({ ...manifest, otherKeys })
  }

  /** The fullest first. */
  async #resumable(): Promise<Leftover[]> {
    const leftovers = await findLeftovers(this.destination).catch(() => [])
    return leftovers.filter((one) => mayResume(one, this.source))
  }

  async #adoptLeftover(): Promise<void> {
    for (const leftover of await findLeftovers(this.destination)) {
      if (!this.#partial && mayResume(leftover, this.source)) {
        this.#partial = await PartialFile.adopt(leftover, this.source, this.#existing, this.#signal)
      } else if (leftover.record.sourceKey === this.source.key || leftover.record.kind === 'mirror') {
        await dropLeftover(leftover)
      }
    }
  }

  #fetchOptions() {
    const { retryDelaysMs, speedLimit, patienceMs, firstPatienceMs, connections } = this.#options
    return {
      source: this.source,
      destination: this.destination,
      remote: this.#remote,
      known: this.#published && identityOf(this.#published.manifest),
      progress: this.#progress,
      signal: this.#signal,
      connections,
      retryDelaysMs,
      speedLimit,
      patienceMs,
      firstPatienceMs,
      makeRoom: (bytes: number) => makeRoom(this.destination, bytes),
    }
  }

  /** The whole file, checked. One that is wrong and may be of several versions gets one more try in one piece. */
  async #fetchRight(fetch: Fetch): Promise<PublishedFile | Ready> {
    let fetched = await fetch.run()
    for (let tries = 1; ; tries++) {
      if (fetched.kind === 'unchanged') return (this.#published as { file: PublishedFile }).file
      const { partial, joined } = fetched
      try {
        const sha256 = await this.#hashed(partial)
        const fault = await this.#faultOf(partial, sha256)
        if (fault === undefined) {
          const checked = { partial, source: this.source, sha256, isWeak: joined === 'by date' }
          return { ...checked, manifest: await seal(checked, this.#signal) }
        }
        if (tries > 1 || !this.#mayBeMixed(joined, fault)) throw await this.#rejected(partial, sha256, fault)
        fetched = await fetch.inOnePiece()
      } catch (error) {
        // Somebody was at it when all of it was here.
        if (tries > 1 || !(error instanceof SpoiltPartialError)) throw error
        fetched = await fetch.again()
      }
    }
  }

  /**
   * Bytes of one version are as wrong the second time, and a hash of the caller's that fits none of them is wrong itself. A
   * server may call two versions one, though; then it is the hub's hash that shows it.
   */
  #mayBeMixed(joined: Joined, { code }: Fault): boolean {
    if (joined === 'several versions') return true
    if (code === 'ERR_MODEL_NOT_GGUF') return joined === 'by date'
    return joined === 'one version' && this.source.sha256 === undefined
  }

  /** Most of it was hashed while it came. */
  async #hashed(partial: PartialFile): Promise<string> {
    const total = partial.kept
    this.#progress.enter('verifying', partial.hashed, total)
    return partial.digest({
      signal: this.#signal,
      onBytes: (done) => this.#progress.advance(done, total),
    })
  }

  async #faultOf(partial: PartialFile, sha256: string): Promise<Fault | undefined> {
    const expected = this.source.sha256 ?? partial.identity.sha256
    if (expected !== undefined && sha256 !== expected) {
      return { code: 'ERR_MODEL_HASH_MISMATCH', what: `has the SHA-256 ${sha256} instead of ${expected}` }
    }
    const why = await checkGguf(partial.path)
    return why === undefined ? undefined : { code: 'ERR_MODEL_NOT_GGUF', what: `is not a whole GGUF model: ${why}` }
  }

  async #rejected(partial: PartialFile, sha256: string, { code, what }: Fault): Promise<ModelDownloadError> {
    const { label } = this.source
    this.#fetch = undefined
    const path = await partial.reject({ reason: `it ${what}`, source: label, sha256 })
    const where =
      path === undefined ? 'it was not kept' : `it was not published; its beginning is kept as ${path} for a look`
    return new ModelDownloadError(code, `${label} ${what}; ${where}`, { url: label, path })
  }
}
