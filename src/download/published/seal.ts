// What the files of a model were when they were looked at, so that a later look shows whether they are the same still.
import { stat } from 'node:fs/promises'
import type { HashOptions } from '../disk/file-hash.ts'
import { checkGguf } from '../gguf/structure.ts'
import { readManifest, speaksFor } from './manifest.ts'
import { type PublishedFile, type PublishedModel, readContent } from './verify.ts'

/** One file. `ino` and `dev` mean something within one process only: they change with mounts and copy-up. */
export interface Seal {
  readonly path: string
  readonly size: number
  readonly mtimeMs: number
  readonly ino: number
  readonly dev: number
}

/**
 * The seals of all parts of the model, if each of them is the file that `model` says. `undefined`: a part is missing or
 * another file now.
 *
 * A file of known SHA-256 is known by its manifest, which must say this hash and agree with the file's size and mtime.
 * It is hashed only where no manifest speaks for it (a file of the user's own, a read-only store). A file of unknown
 * SHA-256 must have its size and the structure of a whole GGUF.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_FILE_SYSTEM` when a file cannot be read; the signal's reason.
 */
export async function sealsOf(model: PublishedModel, options: HashOptions = {}): Promise<Seal[] | undefined> {
  const seals: Seal[] = []
  for (const part of model.parts ?? [model]) {
    const seal = await sealOf(part, options)
    if (seal === undefined) return undefined
    seals.push(seal)
  }
  return seals
}

/** Whether these are seals of the same files. */
export function areSame(before: readonly Seal[], after: readonly Seal[] | undefined): boolean {
  return (
    before.length === after?.length &&
    before.every((seal, index) => {
      const now = after[index]
      return (
        seal.path === now?.path &&
        seal.size === now.size &&
        seal.mtimeMs === now.mtimeMs &&
        seal.ino === now.ino &&
        seal.dev === now.dev
      )
    })
  )
}

/** What the files under these paths are now, whatever is in them. `undefined`: one of them is missing. */
export async function lookAgain(seals: readonly Seal[]): Promise<Seal[] | undefined> {
  const now = await Promise.all(seals.map(({ path }) => lookAt(path)))
  return now.every((seal) => seal !== undefined) ? now : undefined
}

async function sealOf(part: PublishedFile | PublishedModel, options: HashOptions): Promise<Seal | undefined> {
  const seal = await lookAt(part.path)
  if (seal?.size !== part.bytes) return undefined
  return (await hasContentOf(part, seal, options)) ? seal : undefined
}

async function lookAt(path: string): Promise<Seal | undefined> {
  const stats = await stat(path).catch(() => undefined)
  if (!stats?.isFile()) return undefined
  const { size, mtimeMs, ino, dev } = stats
  return { path, size, mtimeMs, ino, dev }
}

async function hasContentOf(
  { path, sha256, source, publishedAt }: PublishedFile | PublishedModel,
  { size, mtimeMs }: Seal,
  options: HashOptions,
): Promise<boolean> {
  if (sha256 === undefined) return (await checkGguf(path)) === undefined
  const manifest = await readManifest(path)
  if (manifest && speaksFor(manifest, { size, mtimeMs })) return manifest.sha256 === sha256
  // A file of the user's own has its mtime here (see findLocal), and was hashed a moment ago.
  if (source === path && publishedAt === mtimeMs) return true
  const content = await readContent(path, options)
  return content?.sha256 === sha256 && content.bytes === size && content.mtimeMs === mtimeMs
}
