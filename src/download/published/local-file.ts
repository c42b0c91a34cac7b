// A model file of the user's own: looked at, checked as far as he asks for it, and never changed.

import type { HashOptions } from '../disk/file-hash.ts'
import { ModelDownloadError, notHere } from '../errors.ts'
import { fromCache, lookAtFile, type PublishedModel, readContent } from './verify.ts'

export interface LocalFile {
  readonly path: string
  readonly sha256: string | undefined
  readonly bytes: number | undefined
}

/**
 * The file, if it is a GGUF of the size and hash that are expected. Its hash is told only where it was expected, since it costs
 * reading the file.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_NOT_GGUF`, `ERR_MODEL_SIZE_MISMATCH`, `ERR_MODEL_HASH_MISMATCH`,
 *   `ERR_MODEL_FILE_SYSTEM`; the signal's reason.
 */
export async function findLocal({ path, sha256, bytes }: LocalFile, options: HashOptions): Promise<PublishedModel> {
  const file = await lookAtFile(path)
  if (!file) throw notHere(path, 'a path is not downloaded: give a URL, or hf:user/repo/file.gguf')
  if (file.why) {
    const message = `${path} is not a whole GGUF model: ${file.why}`
    throw new ModelDownloadError('ERR_MODEL_NOT_GGUF', message, { path })
  }
  if (bytes !== undefined && bytes !== file.bytes) {
    const message = `${path} has ${file.bytes} bytes instead of ${bytes}`
    throw new ModelDownloadError('ERR_MODEL_SIZE_MISMATCH', message, { path })
  }
  if (sha256 !== undefined) {
    const content = await readContent(path, options)
    if (content?.sha256 !== sha256) {
      const message = `${path} has the SHA-256 ${content?.sha256 ?? '(none: it changed meanwhile)'} instead of ${sha256}`
      throw new ModelDownloadError('ERR_MODEL_HASH_MISMATCH', message, { path })
    }
  }
  const known = sha256 === undefined ? {} : { sha256 }
  return { path, bytes: file.bytes, ...known, source: path, publishedAt: file.mtimeMs, ...fromCache }
}
