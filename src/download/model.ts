// The front door: one model of one or several files, from what the caller has asked for to its path.
import { join } from 'node:path'
import { isThere } from './disk/files.ts'
import { Download } from './download.ts'
import { ModelDownloadError, notHere } from './errors.ts'
import { downloadOne, type TransferOptions, withConnections } from './file.ts'
import { GroupDownload } from './group-download.ts'
import { askForTag } from './http/hub-tag.ts'
import { findPublished, lookAtExisting, NameTakenError } from './published/existing.ts'
import { findGroup } from './published/group.ts'
import { asModel, type PublishedFile, type PublishedModel } from './published/verify.ts'
import { type HubPath, keepTag, recallTag } from './source/hub-tag.ts'
import type { ResolvedSource } from './source/parse.ts'
import { type FilesRequest, type ModelFiles, type TagRequest, tagWords } from './source/resolve.ts'

export type ModelOptions = TransferOptions & { readonly modelsDirectory: string }

interface Tag {
  readonly request: TagRequest
  readonly path: HubPath
  /** By an earlier word of the hub's. */
  readonly isNoted: boolean
}

export class Model {
  readonly #files: ModelFiles
  readonly #options: ModelOptions
  /** To be noted when the model is there. */
  readonly #tag: Tag | undefined

  private constructor(files: ModelFiles, options: ModelOptions, tag?: Tag) {
    this.#files = files
    this.#options = options
    this.#tag = tag
  }

  /**
   * Which files are meant. Of a tag only the hub knows it: what it has said earlier will do where it must not be asked, or
   * need not.
   *
   * @throws {ModelDownloadError}
   */
  static async of(request: FilesRequest | TagRequest, options: ModelOptions): Promise<Model> {
    if (request.kind === 'files') return new Model(request.files, options)
    const { fetch, modelsDirectory } = options
    const noted =
      fetch === 'always' ? undefined : await recallTag(request, modelsDirectory, { anyHub: fetch === 'never' })
    if (noted) return new Model(request.filesAt(noted), options, { request, path: noted, isNoted: true })
    if (fetch === 'never') {
      throw notHere(tagWords(request.tag), 'the hub, which knows what file that is, must not be asked for it')
    }
    return Model.#asked(request, options)
  }

  static async #asked(request: TagRequest, options: ModelOptions): Promise<Model> {
    const path = await withConnections(options, ({ http, retryDelaysMs }) =>
      askForTag(request, { ...http, retryDelaysMs }),
    )
    return new Model(request.filesAt(path), options, { request, path, isNoted: false })
  }

  /** Where it will be, unless another source has that name. */
  get path(): string {
    return this.#pathsBy('fileName')[0]
  }

  get count(): number {
    return this.#files.length
  }

  /** The published model: a look at its files, no lock, no request. */
  async find(): Promise<PublishedModel | undefined> {
    for (const paths of this.#candidates()) {
      const files = await this.#findAt(paths)
      if (files) return asModel(files)
    }
    return undefined
  }

  /**
   * Gets it. For one process at a time.
   *
   * @throws {ModelDownloadError}
   */
  async download(
    options: Pick<TransferOptions, 'onProgress' | 'verifyAgain' | 'guard' | 'firstPatienceMs'>,
  ): Promise<PublishedModel> {
    const files = await withConnections({ ...this.#options, ...options }, async (fileOptions) => {
      const get = (paths: Paths) =>
        this.#files.length === 1
          ? downloadOne(new Download(this.#files[0], paths[0], fileOptions)).then((file) => [file])
          : new GroupDownload(this.#files, paths, fileOptions).run()
      const there = await this.#whereItIs()
      if (there) return get(there)
      const plain = this.#pathsBy('fileName')
      try {
        return await get(plain)
      } catch (error) {
        const distinct = this.#files[0].isNamed ? undefined : this.#pathsBy('distinctName')
        if (!(error instanceof NameTakenError) || distinct === undefined) throw error
        warnOnce(plain[0], distinct[0], error)
        return get(distinct)
      }
    })
    if (this.#tag && !this.#tag.isNoted) {
      await keepTag(this.#tag.request, this.#tag.path, this.#options.modelsDirectory, this.#options.signal)
    }
    return asModel(files as [PublishedFile, ...PublishedFile[]])
  }

  /** The hub may have renamed the file since it was asked. `undefined`: this is no tag, or the hub says the same. */
  async renamed(error: unknown): Promise<Model | undefined> {
    const isGone = error instanceof ModelDownloadError && (error.status === 404 || error.status === 410)
    if (!isGone || !this.#tag?.isNoted) return undefined
    const asked = await Model.#asked(this.#tag.request, this.#options)
    return asked.path === this.path && asked.#files[0].url === this.#files[0].url ? undefined : asked
  }

  /**
   * Another name that this source has its files under: the distinct one, which is kept once it was made, also when the plain
   * one is free again; or the one that a link to the hub had as a plain URL.
   */
  async #whereItIs(): Promise<Paths | undefined> {
    const [, distinct, older] = this.#candidates()
    if (distinct && (await isThere(distinct[0]))) return distinct
    if (older === undefined) return undefined
    const { kind } = await lookAtExisting(older[0], this.#files[0])
    return kind === 'none' || kind === 'other' ? undefined : older
  }

  /** The names that it may have, the right one first. */
  #candidates(): readonly [Paths, ...Paths[]] {
    const plain = this.#pathsBy('fileName')
    const [first] = this.#files
    if (first.isNamed) return [plain]
    const older = this.#files.every(({ plainName }) => plainName !== undefined) ? [this.#pathsBy('plainName')] : []
    return [plain, this.#pathsBy('distinctName'), ...older]
  }

  #pathsBy(name: 'fileName' | 'distinctName' | 'plainName'): Paths {
    const { modelsDirectory } = this.#options
    const [first, ...rest] = this.#files
    const pathOf = (file: ResolvedSource) => join(modelsDirectory, file[name] ?? file.fileName)
    return [pathOf(first), ...rest.map(pathOf)]
  }

  async #findAt(paths: Paths): Promise<[PublishedFile, ...PublishedFile[]] | undefined> {
    if (this.#files.length > 1) {
      const found = await findGroup(paths[0], this.#files)
      return found as [PublishedFile, ...PublishedFile[]] | undefined
    }
    const file = await findPublished(paths[0], this.#files[0])
    return file && [file]
  }
}

type Paths = readonly [string, ...string[]]

const warned = new Set<string>()

function warnOnce(plain: string, distinct: string, { message }: Error): void {
  if (warned.has(plain)) return
  warned.add(plain)
  const said = message.replace(/ Nothing was replaced.*$/s, '')
  process.emitWarning(`${said} The model is stored as ${distinct}`, {
    type: 'ModelWarning',
    code: 'OS_MUTEX_NAME_TAKEN',
  })
}
