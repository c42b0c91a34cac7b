// Several paths that change to another version in one moment, as a repository does at a push: split models, and pinned revisions.
import type { ModelServer } from '../model-server.ts'
import type { ServedFile } from './served-file.ts'

/** Files by path. */
export type Version = Readonly<Record<string, string | ServedFile>>

export class VersionedFiles<Name extends string> {
  readonly #server: ModelServer
  readonly #versions: Readonly<Record<Name, Version>>
  #current: Name

  /** Serves the version `current`. Every answer tells its version's name as X-Repo-Commit. */
  constructor(server: ModelServer, versions: Readonly<Record<Name, Version>>, current: NoInfer<Name>) {
    this.#server = server
    this.#versions = versions
    this.#current = current
    this.switchTo(current)
  }

  get current(): Name {
    return this.#current
  }

  /** Answers that have begun go on with the old bytes. */
  switchTo(version: Name): void {
    this.#current = version
    for (const [path, file] of Object.entries(this.#versions[version])) {
      const served = typeof file === 'string' ? { file } : file
      this.#server.serve(path, { ...served, headers: { 'x-repo-commit': version, ...served.headers } })
    }
  }

  /** Switches once so many bytes of a path have gone out, in the middle of its transfer. The path must be paused there. */
  async switchAt(path: string, bytes: number, version: Name): Promise<void> {
    await this.#server.reached(path, bytes)
    this.switchTo(version)
    this.#server.resume(path)
  }
}
