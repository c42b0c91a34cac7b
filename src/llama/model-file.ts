// The file that is about to be loaded: where it really is, and whether it can be a model at all.
import { open, realpath } from 'node:fs/promises'
import { errnoOf, ModelDownloadError } from '../download/errors.ts'
import { ggufHeaderBytes, whyNotGguf } from '../download/gguf/header.ts'
import { type Manifest, readManifest, speaksFor } from '../download/published/manifest.ts'
import { lookAtFile, verifyPublished } from '../download/published/verify.ts'
import { partsOf } from '../download/source/file-name.ts'
import { ModelLoadError } from './errors.ts'
import type { HeldLocks } from './held-locks.ts'

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
 * Looks at a model whose last loader died: at every part of a split one. A reader cannot damage a file, so size, mtime
 * and structure are enough where they are as published. A part that differs from its manifest is hashed, and others see
 * how far that is. A file without a manifest has only its structure to be judged by.
 *
 * @throws {ModelLoadError} `ERR_MODEL_DAMAGED`, `ERR_MODEL_NOT_READABLE`; the signal's reason.
 */
export async function checkAfterDeath(path: string, locks: HeldLocks, signal: AbortSignal | undefined): Promise<void> {
  const parts = await Promise.all(partsOf(path).map(lookAtPart))
  const changed = parts.filter(({ bytes, mtimeMs, manifest }) => {
    return manifest !== undefined && !speaksFor(manifest, { size: bytes, mtimeMs })
  })
  const total = changed.reduce((sum, { bytes }) => sum + bytes, 0)
  let before = 0
  for (const { path, bytes } of changed) {
    const onBytes = (done: number) => locks.report({ done: before + done, total, unit: 'bytes' })
    const verification = await verifyPublished(path, { signal, onBytes }).catch((cause) => {
      signal?.throwIfAborted()
      return unreadable(path, cause)
    })
    if (verification.verdict === 'damaged') throw damaged(path, verification.problem)
    before += bytes
  }
}

interface Part {
  readonly path: string
  readonly bytes: number
  readonly mtimeMs: number
  readonly manifest: Manifest | undefined
}

async function lookAtPart(path: string): Promise<Part> {
  const [seen, manifest] = await Promise.all([lookAtFile(path), readManifest(path)]).catch((cause) =>
    unreadable(path, cause),
  )
  if (seen === undefined) throw damaged(path, 'this part of the model is missing')
  if (seen.why !== undefined) throw damaged(path, seen.why)
  return { path, bytes: seen.bytes, mtimeMs: seen.mtimeMs, manifest }
}

function damaged(path: string, reason: string): ModelLoadError {
  const advice = 'Delete it and download it again. If it is a file of your own, load it again: it is checked only now'
  const message = `The last loader of ${path} died, and the file is not as it was published: ${reason}. ${advice}`
  return new ModelLoadError('ERR_MODEL_DAMAGED', message, { path, reason })
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
  const errno = errnoOf(cause instanceof ModelDownloadError ? cause.cause : cause)
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
