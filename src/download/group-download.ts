// A model of several files: each is downloaded as one alone would be, and all get their names at the end (published/group.ts).
import { basename, dirname } from 'node:path'
import { isThere } from './disk/files.ts'
import { Download, type FileOptions, type Ready } from './download.ts'
import { ModelDownloadError, notHere } from './errors.ts'
import { findLeftovers } from './partial/leftovers.ts'
import { makeRoom, sweep } from './partial/room.ts'
import { type DownloadProgress, ProgressReporter } from './progress.ts'
import { NameTakenError } from './published/existing.ts'
import {
  findGroup,
  findVersion,
  type GroupNote,
  type NewPart,
  noteOf,
  partPaths,
  publishAgain,
  publishFolder,
  readGroup,
  writeGroup,
} from './published/group.ts'
import { type Manifest, noteManifest, readManifest, writeManifest } from './published/manifest.ts'
import { publish } from './published/publish.ts'
import { asPublished, fromCache, type PublishedFile } from './published/verify.ts'
import type { ResolvedSource } from './source/parse.ts'

/** The server may get a new version while one part after the other is fetched. */
const mostRounds = 3

type Got = PublishedFile | Ready

export class GroupDownload {
  readonly #sources: readonly ResolvedSource[]
  /** The flat path of each part: where its partial is. */
  readonly #paths: readonly string[]
  readonly #options: FileOptions
  readonly #downloads: Download[] = []
  /** A publisher has died, and all that it was about to publish is here. */
  #isBegun = false
  /** Bytes of the parts before the one at hand, and of all. */
  #before = 0
  #whole: number | undefined

  constructor(sources: readonly ResolvedSource[], paths: readonly string[], options: FileOptions) {
    this.#sources = sources
    this.#paths = paths
    this.#options = options
  }

  async run(): Promise<PublishedFile[]> {
    try {
      const existing = await this.#begin()
      const there: (PublishedFile | undefined)[] = []
      for (const download of this.#downloads) {
        const part = await download.look()
        there.push(part)
        this.#before += part?.bytes ?? 0
      }
      this.#before = 0
      if (there.every((file) => file !== undefined)) {
        const settled = await this.#settle(there)
        if (settled) return settled
        if (this.#options.fetch === 'never') throw notHere(this.#first, 'its parts are of different versions')
      }
      if (this.#options.fetch === 'never') throw notHere(this.#first)
      this.#refuseUnknown(there)
      await this.#measure(there)
      const got = await this.#fetchAll(there)
      const files = await this.#publish(got, existing)
      await sweep(dirname(this.#first))
      return files
    } catch (error) {
      for (const download of this.#downloads) await download.letGo()
      throw error
    }
  }

  get #first(): string {
    return this.#paths[0] as string
  }

  /** Where the parts are that are published, if any are. */
  async #begin(): Promise<readonly string[]> {
    const note = await readGroup(this.#first)
    const isUsable = note?.parts.length === this.#paths.length
    const existing = isUsable ? partPaths(this.#first, note) : this.#paths
    const isBegun = isUsable && note.isPending === true && (await this.#isAllHere(note))
    this.#isBegun = isBegun && this.#options.fetch !== 'always'
    for (const [index, source] of this.#sources.entries()) {
      const path = this.#paths[index] as string
      const options = { ...this.#options, onProgress: this.#onProgress }
      // What was about to be published is completed from what is here: by these hashes no server has to be asked.
      const hash = this.#isBegun ? { sha256: note?.parts[index]?.sha256 as string } : {}
      this.#downloads.push(new Download({ ...source, ...hash }, path, options, existing[index]))
    }
    return existing
  }

  /** Every part of what was about to be published has its name already, or is here as a whole partial. */
  async #isAllHere({ parts }: GroupNote): Promise<boolean> {
    for (const [index, { bytes, sha256 }] of parts.entries()) {
      const path = this.#paths[index] as string
      const manifest = await readManifest(path)
      if (manifest?.sha256 === sha256 && (await isThere(path))) continue
      const leftovers = await findLeftovers(path).catch(() => [])
      if (!leftovers.some(({ extents }) => extents.frontier === bytes)) return false
    }
    return true
  }

  /**
   * All parts are here, and right one by one. If nothing ties them together yet, they are noted as one. `undefined`: they were
   * published with different others, so only the server knows whether they are of one version.
   */
  async #settle(files: readonly PublishedFile[], isAsked = false): Promise<PublishedFile[] | undefined> {
    const found = await findGroup(this.#first, this.#sources)
    if (found) return found
    const manifests = await Promise.all(files.map(({ path }) => readManifest(path)))
    const groups = new Set(manifests.map((manifest) => manifest?.group).filter((group) => group !== undefined))
    if (groups.size > 1 && !isAsked) return undefined
    if (manifests.every((manifest) => manifest !== undefined)) await this.#note(files, manifests)
    return [...files]
  }

  async #note(files: readonly { readonly path: string }[], manifests: readonly Manifest[]): Promise<void> {
    const note = noteOf(this.#names, manifests)
    try {
      for (const [index, manifest] of manifests.entries()) {
        await writeManifest((files[index] as { path: string }).path, { ...manifest, group: note.id })
      }
      await writeGroup(this.#first, note)
    } catch {
      // A store that can't be written: looked at again the next time.
    }
  }

  get #names(): string[] {
    return this.#paths.map((path) => basename(path))
  }

  /** Progress of one part as progress of all. */
  readonly #onProgress = (progress: DownloadProgress): void => {
    const { total: _, etaMs: __, ...rest } = progress
    const done = this.#before + progress.done
    const whole = this.#whole !== undefined && done <= this.#whole ? this.#whole : undefined
    const rate = progress.bytesPerSecond
    this.#options.onProgress?.({
      ...rest,
      done,
      ...(whole !== undefined && { total: whole }),
      ...(whole !== undefined && rate && { etaMs: Math.max(0, ((whole - done) / rate) * 1000) }),
    })
  }

  /** A part of which only size and structure are right can't be told to belong to the others. */
  #refuseUnknown(there: readonly (PublishedFile | undefined)[]): void {
    for (const [index, part] of there.entries()) {
      if (part === undefined || part.sha256 !== undefined || this.#options.replace) continue
      throw new NameTakenError(part.path, this.#sources[index] as ResolvedSource, undefined)
    }
  }

  /** The size of all, and room for what is missing of it. */
  async #measure(there: readonly (PublishedFile | undefined)[]): Promise<void> {
    let [whole, missing]: [number | undefined, number] = [0, 0]
    for (const [index, download] of this.#downloads.entries()) {
      const bytes: number | undefined = there[index]?.bytes ?? (await download.size())
      whole = whole === undefined || bytes === undefined ? undefined : whole + bytes
      if (there[index] === undefined) missing += Math.max(0, (bytes ?? 0) - (await download.here()))
    }
    this.#whole = whole
    await makeRoom(this.#first, missing)
  }

  async #fetchAll(there: readonly (PublishedFile | undefined)[]): Promise<Got[]> {
    const got: Got[] = []
    for (const [index, download] of this.#downloads.entries()) {
      // What is there may be of an older version than what is fetched beside it.
      const isSure = this.#isBegun || !download.askAgain()
      const part = (isSure ? there[index] : undefined) ?? (await download.fetch())
      got.push(part)
      this.#before += 'manifest' in part ? part.manifest.bytes : part.bytes
    }
    for (let round = 1; await this.#fetchChanged(got); round++) {
      if (round < mostRounds) continue
      const { label: url } = this.#sources[0] as ResolvedSource
      const message = `The parts of ${url} change on their server faster than they can be downloaded; try again later`
      throw new ModelDownloadError('ERR_MODEL_NETWORK', message, { url })
    }
    return got
  }

  /**
   * A part that was fetched, or found unchanged, an hour ago may be of another version than the last one is: all are asked
   * about once more. Only where none was fetched they are what is published, together. Whether there was one.
   */
  async #fetchChanged(got: Got[]): Promise<boolean> {
    let isChanged = false
    if (this.#isBegun || !got.some((part) => 'manifest' in part)) return false
    for (const [index, part] of got.entries()) {
      const download = this.#downloads[index] as Download
      if (await download.isStillThere(part)) continue
      isChanged = true
      if ('manifest' in part) await part.partial.drop()
      got[index] = await download.fetch()
    }
    return isChanged
  }

  async #publish(got: readonly Got[], existing: readonly string[]): Promise<PublishedFile[]> {
    const manifests = await Promise.all(
      got.map((part) => ('manifest' in part ? part.manifest : readManifest(part.path))),
    )
    if (!got.some((part) => 'manifest' in part)) {
      const files = got as PublishedFile[]
      return (await this.#settle(files, true)) ?? files
    }
    if (!areKnown(manifests)) throw new NameTakenError(this.#first, this.#sources[0] as ResolvedSource, undefined)
    const back = await this.#publishAgain(got, manifests)
    if (back) return back
    try {
      return await this.#publishNew(got, manifests, existing)
    } catch (error) {
      // Somebody whom no lock reaches may have published the same meanwhile; in a sticky folder his files are his alone.
      const same = await this.#publishAgain(got, manifests).catch(() => undefined)
      if (same === undefined) throw error
      return same
    }
  }

  async #publishNew(
    got: readonly Got[],
    manifests: readonly Manifest[],
    existing: readonly string[],
  ): Promise<PublishedFile[]> {
    const { signal } = this.#options.http
    if (await this.#isFlatFree(got, existing)) return this.#publishFlat(got, manifests)
    const parts = got.map((part, index): NewPart => {
      const isKept = !('manifest' in part)
      const from = isKept ? part.path : part.partial.path
      return { name: this.#names[index] as string, from, isKept, manifest: manifests[index] as Manifest }
    })
    const folder = await publishFolder(this.#first, this.#sources[0] as ResolvedSource, parts, signal)
    const note = noteOf(this.#names, manifests, folder)
    await writeGroup(this.#first, note, signal)
    for (const part of got) if ('manifest' in part) await part.partial.forgetRecord()
    const paths = partPaths(this.#first, note)
    return this.#published(got, manifests, paths)
  }

  /**
   * A version that was published before, and that the server has again, stays where it is: somebody may be reading it. What its
   * server says of it now is noted.
   */
  async #publishAgain(got: readonly Got[], manifests: readonly Manifest[]): Promise<PublishedFile[] | undefined> {
    const { signal } = this.#options.http
    const whole = manifests.reduce((sum, { bytes }) => sum + bytes, 0)
    const progress = new ProgressReporter(this.#options.onProgress)
    const onBytes = (done: number) => progress.enter('verifying', done, whole)
    const note = await findVersion(this.#first, noteOf(this.#names, manifests), { signal, onBytes })
    if (note === undefined) return undefined
    const paths = partPaths(this.#first, note)
    await publishAgain(this.#first, note, manifests, signal)
    // Until the note led there, it could be pruned.
    for (const path of paths) if (!(await isThere(path))) return undefined
    for (const part of got) if ('manifest' in part) await part.partial.drop()
    return this.#published(got, manifests, paths)
  }

  /** The first version goes beside the other models. No file that is there is replaced by another. */
  async #isFlatFree(got: readonly Got[], existing: readonly string[]): Promise<boolean> {
    for (const [index, part] of got.entries()) {
      const path = this.#paths[index] as string
      if (existing[index] !== path) return false
      if (!('manifest' in part) || !(await isThere(path))) continue
      if ((await readManifest(path))?.sha256 !== part.sha256) return false
    }
    return true
  }

  async #publishFlat(got: readonly Got[], manifests: readonly Manifest[]): Promise<PublishedFile[]> {
    const { signal } = this.#options.http
    const note = noteOf(this.#names, manifests)
    await writeGroup(this.#first, { ...note, isPending: true }, signal)
    const noted = manifests.map((manifest) => ({ ...manifest, group: note.id }))
    for (const [index, part] of [...got.entries()].reverse()) {
      const manifest = noted[index] as Manifest
      if ('manifest' in part) await publish(part, manifest, { guard: this.#options.guard, signal })
      else await noteManifest(part.path, manifest)
    }
    await writeGroup(this.#first, note, signal)
    return this.#published(got, noted, this.#paths)
  }

  async #published(
    got: readonly Got[],
    manifests: readonly Manifest[],
    paths: readonly string[],
  ): Promise<PublishedFile[]> {
    const files: PublishedFile[] = []
    const whole = manifests.reduce((sum, { bytes }) => sum + bytes, 0)
    for (const [index, part] of got.entries()) {
      const path = paths[index] as string
      // All of the model is there by now.
      this.#before = whole - (manifests[index] as Manifest).bytes
      const download = this.#downloads[index] as Download
      if ('manifest' in part) files.push(await download.published(part, path))
      else files.push(asPublished(path, manifests[index] as Manifest, fromCache))
    }
    return files
  }
}

function areKnown(manifests: readonly (Manifest | undefined)[]): manifests is readonly Manifest[] {
  return manifests.every((manifest) => manifest !== undefined)
}
