// Model files of the user's own: looked at, checked as far as he asks for it, and never changed.
import type { HashOptions } from '../disk/file-hash.ts'
import { ModelDownloadError, notHere } from '../errors.ts'
import type { LocalRequest } from '../source/resolve.ts'
import { asModel, fromCache, lookAtFile, type PublishedFile, type PublishedModel, readContent } from './verify.ts'

/**
 * The model, if each of its files is a whole GGUF, and of the size and hash that are expected. Its hash is told only where it
 * was expected, since it costs reading the file.
 *
 * @throws {ModelDownloadError} `ERR_MODEL_NOT_FOUND`, `ERR_MODEL_NOT_GGUF`, `ERR_MODEL_SIZE_MISMATCH`, `ERR_MODEL_HASH_MISMATCH`,
 *   `ERR_MODEL_FILE_SYSTEM`; the signal's reason.
 */
export async function findLocal(request: LocalRequest, options: HashOptions): Promise<PublishedModel> {
  const [first, ...rest] = request.paths
  const file = await findOne(first, request, options)
  const others: PublishedFile[] = []
  for (const path of rest) others.push(await findOne(path, request, options))
  return asModel([file, ...others])
}

async function findOne(path: string, request: LocalRequest, options: HashOptions): Promise<PublishedFile> {
  const { sha256, bytes, paths } = request
  const file = await lookAtFile(path)
  if (!file) {
    const part = paths.length > 1 ? `it is one of ${paths.length} parts of a model, and ` : ''
    throw notHere(path, `${part}a path is not downloaded: give a URL, or hf:user/repo/file.gguf`)
  }
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
