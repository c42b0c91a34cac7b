// The file that is about to be loaded: where it really is, and whether it can be a model at all.
import { open, realpath, stat } from 'node:fs/promises'
import { ggufHeaderBytes, whyNotGguf } from '../download/gguf/header.ts'
import { readManifest } from '../download/published/manifest.ts'
import { verifyPublished } from '../download/published/verify.ts'
import { ModelLoadError } from './errors.ts'

/** Follows all links. Throws a `ModelLoadError` for a file that llama.cpp would only fail to load. */
export async function findModelFile(path: string): Promise<string> {
  const [real, head] = await Promise.all([realpath(path), readHead(path)]).catch((cause) => unreadable(path, cause))
  const fault = whyNotGguf(head)
  if (fault === undefined) return real
  throw new ModelLoadError(
    'ERR_MODEL_NOT_GGUF',
    `${path} is no GGUF model: ${fault}. Delete it and download it again`,
    {
      path,
      reason: fault,
    },
  )
}

/**
 * Hashes a published file again. Throws `ERR_MODEL_DAMAGED` when it is not what was published. A file without a manifest, or
 * one that somebody has replaced since (size or mtime differ), has nothing to be compared with.
 */
export async function verifyModelFile(path: string, signal: AbortSignal | undefined): Promise<void> {
  const [stats, manifest] = await Promise.all([stat(path), readManifest(path)])
  if (stats.size !== manifest?.bytes || stats.mtimeMs !== manifest.mtimeMs) return
  const verification = await verifyPublished(path, { signal })
  if (verification.verdict !== 'damaged') return
  const reason = verification.problem
  throw new ModelLoadError('ERR_MODEL_DAMAGED', `${path} is damaged: ${reason}. Delete it and download it again`, {
    path,
    reason,
  })
}

async function readHead(path: string): Promise<Uint8Array> {
  const file = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(ggufHeaderBytes), 0, ggufHeaderBytes, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

function unreadable(path: string, cause: unknown): never {
  const errno = cause instanceof Error ? (cause as NodeJS.ErrnoException).code : undefined
  if (errno === 'ENOENT' || errno === 'ENOTDIR') {
    throw new ModelLoadError('ERR_MODEL_NOT_FOUND', `There is no model file ${path}. Get it with ensureModel first`, {
      path,
      cause,
    })
  }
  const reason = errno === 'EISDIR' ? 'it is a folder' : (errno ?? String(cause))
  throw new ModelLoadError('ERR_MODEL_NOT_READABLE', `The model file ${path} cannot be read: ${reason}`, {
    path,
    reason,
    cause,
  })
}
