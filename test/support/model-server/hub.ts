// A hub of models as huggingface.co is one: `/resolve/` redirects to a signed URL of a CDN, tags are looked up by manifests, tokens
// are looked at even where none is needed, and revisions move. https://huggingface.co/docs/hub/en/rate-limits
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ModelServer, type ModelServerOptions } from '../model-server.ts'
import type { ServedFile } from './served-file.ts'
import { Signer } from './signer.ts'

export interface HubOptions {
  /** Of the CDN. */
  readonly cdn?: ModelServerOptions
  /** How the CDN serves each file: `etag: etagPerNode` and the like. Default: without an ETag, as Xet does. */
  readonly served?: Partial<Omit<ServedFile, 'file'>>
  /** How long a CDN's URL is good. Default: an hour. */
  readonly signedForMs?: number
  /** The tokens that the hub knows. Any other is refused with 401, for public files too. */
  readonly tokens?: readonly string[]
  /** Repositories that want a known token. */
  readonly gated?: readonly string[]
}

interface Commit {
  readonly id: string
  /** The files on disk, by their paths in the repository. */
  readonly files: Readonly<Record<string, string>>
}

interface Repository {
  readonly commits: Map<string, Commit>
  readonly revisions: Map<string, string>
  readonly tags: Map<string, string>
}

const asked = /^\/([^/]+\/[^/]+)\/(resolve|blob)\/(refs\/[^/]+\/[^/]+|[^/]+)\/(.+)$/
const manifest = /^\/v2\/([^/]+\/[^/]+)\/manifests\/([^/]+)$/

export class Hub implements AsyncDisposable {
  readonly server: ModelServer
  readonly cdn: ModelServer
  readonly signer = new Signer('cloudfront')
  readonly #options: HubOptions
  readonly #repositories = new Map<string, Repository>()

  private constructor(server: ModelServer, cdn: ModelServer, options: HubOptions) {
    this.server = server
    this.cdn = cdn
    this.#options = options
    server.route((request, response, url) => this.#answer(request, response, url.pathname))
  }

  static async start(options: HubOptions = {}): Promise<Hub> {
    const [server, cdn] = await Promise.all([ModelServer.start(), ModelServer.start(options.cdn)])
    return new Hub(server, cdn, options)
  }

  /** Value of HF_ENDPOINT. */
  get origin(): string {
    return this.server.origin
  }

  /** How many `/resolve/` requests came, whatever the answer. */
  get resolves(): number {
    return this.server.log.filter(({ path }) => path.includes('/resolve/')).length
  }

  /** How many manifests of tags were asked for. */
  get lookUps(): number {
    return this.server.log.filter(({ path }) => path.startsWith('/v2/')).length
  }

  /** Adds a commit and points the revision to it. `files`: on disk, by their paths in the repository. Returns the commit's id. */
  commit(repository: string, files: Readonly<Record<string, string>>, revision = 'main'): string {
    const at = this.#at(repository)
    const id = createHash('sha1').update(`${repository} ${at.commits.size}`).digest('hex')
    at.commits.set(id, { id, files })
    at.revisions.set(revision, id)
    return id
  }

  /** Points a revision to a commit, in one moment for all files. */
  point(repository: string, revision: string, commit: string): void {
    this.#at(repository).revisions.set(revision, commit)
  }

  /** The file that a quantization's tag means. */
  tag(repository: string, tag: string, file: string): void {
    this.#at(repository).tags.set(tag, file)
  }

  url(repository: string, file: string, revision = 'main', page: 'resolve' | 'blob' = 'resolve'): string {
    return `${this.origin}/${repository}/${page}/${encodeURIComponent(revision)}/${file}`
  }

  /** The CDN's path of a file on disk: for faults, pauses and counts there. */
  blobPath(file: string): string {
    return `/blobs/${sha256Of(file)}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.server.close(), this.cdn.close()])
  }

  #at(repository: string): Repository {
    const at = this.#repositories.get(repository) ?? { commits: new Map(), revisions: new Map(), tags: new Map() }
    this.#repositories.set(repository, at)
    return at
  }

  #answer(request: IncomingMessage, response: ServerResponse, path: string): boolean {
    const [, repository = '', page, revision = '', file = ''] = decoded(asked.exec(path))
    const [, tagged, tag = ''] = decoded(manifest.exec(path))
    if (page === undefined && tagged === undefined) return false
    if (this.#isRefused(tagged ?? repository, request, response)) return true
    if (tagged !== undefined) this.#tell(response, tagged, tag)
    else if (page === 'blob') response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html>')
    else this.#redirect(response, this.#find(repository, revision), file)
    return true
  }

  #isRefused(repository: string, request: IncomingMessage, response: ServerResponse): boolean {
    const { tokens = [], gated = [] } = this.#options
    const token = /^Bearer (.*)$/.exec(request.headers.authorization ?? '')?.[1]
    const isKnown = token !== undefined && tokens.includes(token)
    if (token !== undefined && !isKnown)
      refuse(response, 401, 'InvalidToken', 'Invalid credentials in Authorization header')
    else if (!isKnown && gated.includes(repository))
      refuse(response, 401, 'GatedRepo', `Access to model ${repository} is restricted. Please log in.`)
    else return false
    return true
  }

  #find(repository: string, revision: string): Commit | undefined {
    const at = this.#repositories.get(repository)
    return at?.commits.get(at.revisions.get(revision) ?? revision)
  }

  #redirect(response: ServerResponse, commit: Commit | undefined, path: string): void {
    const file = commit?.files[path]
    if (commit === undefined) refuse(response, 404, 'RevisionNotFound', 'Invalid rev id')
    else if (file === undefined) refuse(response, 404, 'EntryNotFound', 'Entry not found')
    else {
      const { served, signedForMs } = this.#options
      const to = this.cdn.serve(this.blobPath(file), { etag: null, ...served, file, signed: this.signer })
      const headers = {
        location: this.signer.sign(to, signedForMs),
        'x-repo-commit': commit.id,
        'x-linked-size': String(statSync(file).size),
        'x-linked-etag': `"${sha256Of(file)}"`,
        // Of the redirect's own text, which is no validator of the file.
        etag: `W/"${commit.id}"`,
      }
      response.writeHead(302, headers).end('Found. Redirecting')
    }
  }

  #tell(response: ServerResponse, repository: string, tag: string): void {
    const rfilename = this.#repositories.get(repository)?.tags.get(tag)
    if (rfilename === undefined) refuse(response, 404, 'EntryNotFound', `No file of the tag ${tag}`)
    else
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ ggufFile: { rfilename } }))
  }
}

/** Part by part: a slash in a revision or a file's name is escaped. */
function decoded(found: RegExpExecArray | null): (string | undefined)[] {
  return (found ?? []).map((text) => (text === undefined ? undefined : decodeURIComponent(text)))
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response
    .writeHead(status, { 'x-error-code': code, 'x-error-message': message })
    .end(JSON.stringify({ error: message }))
}

const hashes = new Map<string, string>()

function sha256Of(file: string): string {
  const { size, mtimeMs } = statSync(file)
  const key = `${file} ${size} ${mtimeMs}`
  const hash = hashes.get(key) ?? createHash('sha256').update(readFileSync(file)).digest('hex')
  hashes.set(key, hash)
  return hash
}
