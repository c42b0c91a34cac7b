// Getting one model's file: from the cache without a lock, else by one download at a time on the machine.
import { mkdir, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { downloadFile } from '../download/download.ts'
import { ModelDownloadError } from '../download/errors.ts'
import { onDisk } from '../download/file-system.ts'
import type { DownloadProgress } from '../download/progress.ts'
import { findPublished, type PublishedModel } from '../download/published.ts'
import { type ModelSource, type ResolvedSource, resolveSource } from '../download/source.ts'
import type { MutexLock } from '../mutex/mutex-lock.ts'
import { NamedMutex } from '../mutex/named-mutex.ts'
import { checkTimeout } from '../mutex/options.ts'
import { describeOwner } from '../mutex/owner-info.ts'
import type { GateSettings } from './gate-options.ts'
import { downloadMutexName, modelMutexName } from './mutex-names.ts'
import { acquireWhileProgressing } from './progressing-wait.ts'
import { observed } from './telemetry.ts'
import { waitTimeoutError } from './wait-timeout.ts'
import { reportWaiting, type WaitingProgress } from './waiting-progress.ts'

/** What happens to the file: here, or in another process that this one waits for (`phase: 'waiting'`). */
export type ModelProgress = DownloadProgress | WaitingProgress

export interface EnsureModelOptions {
  /** Called at most ten times a second, and at least once for a file that was not there already. */
  readonly onProgress?: (progress: ModelProgress) => void
  /** Ends the wait or the download; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal
  /** How long to wait for another process's download, in milliseconds. The gate's `downloadTimeoutMs` unless told. */
  readonly timeoutMs?: number
}

export async function ensureModel(
  input: ModelSource,
  options: EnsureModelOptions,
  settings: GateSettings,
): Promise<PublishedModel> {
  const { onProgress, signal, timeoutMs = settings.downloadTimeoutMs } = options
  checkTimeout('timeoutMs', timeoutMs)
  signal?.throwIfAborted()
  const source = resolveSource(input)
  const destination = join(settings.modelsDirectory, source.fileName)
  const cached = await findPublished(destination, source)
  if (cached !== undefined) return cached

  const name = downloadMutexName(settings.prefix, await canonicalPath(destination))
  using mutex = new NamedMutex(name, settings.mutexOptions)
  const lock = await acquireWhileProgressing(mutex, {
    limitMs: timeoutMs,
    extendWhileProgressing: settings.extendWhileProgressing,
    purpose: `download ${basename(destination)}`,
    signal,
    timeoutError: (owner) =>
      waitTimeoutError(`download ${destination}`, 'downloadTimeoutMs', { mutexName: name, timeoutMs, owner }),
    onLook: onProgress && reportWaiting(onProgress),
  })
  try {
    return await downloadUnderLock(source, destination, options, lock)
  } catch (error) {
    throw await withLoader(error, settings)
  } finally {
    lock.release()
  }
}

/** The previous owner may have published the file while this process waited; if it died, its work is verified again. */
async function downloadUnderLock(
  source: ResolvedSource,
  destination: string,
  { onProgress, signal }: EnsureModelOptions,
  lock: MutexLock,
): Promise<PublishedModel> {
  if (!lock.abandoned) {
    const published = await findPublished(destination, source)
    if (published !== undefined) {
      onProgress?.({ phase: 'waiting', done: published.bytes, total: published.bytes })
      return published
    }
  }
  return observed('download', destination, lock, () =>
    downloadFile({
      source,
      destination,
      verifyAgain: lock.abandoned,
      ...(signal && { signal }),
      onProgress: (progress) => {
        lock.report({
          done: progress.done,
          unit: 'bytes',
          ...(progress.total !== undefined && { total: progress.total }),
        })
        onProgress?.(progress)
      },
    }),
  )
}

/** Of a file that is in use: names the process that is loading it just now, if one is. */
async function withLoader(error: unknown, { prefix, mutexOptions }: GateSettings): Promise<unknown> {
  if (!(error instanceof ModelDownloadError) || error.code !== 'ERR_MODEL_FILE_IN_USE' || !error.path) return error
  const { path, cause } = error
  const realPath = await realpath(path).catch(() => undefined)
  if (realPath === undefined) return error
  using mutex = new NamedMutex(modelMutexName(prefix, realPath), mutexOptions)
  const { held, owner } = mutex.query()
  if (!held) return error
  const message = `${error.message}. It is being loaded by ${describeOwner(owner)}`
  return new ModelDownloadError(error.code, message, { path, cause, owner })
}

/** The same for every way of naming the folder, so that all processes agree on the mutex. The file need not exist. */
async function canonicalPath(destination: string): Promise<string> {
  const folder = dirname(destination)
  await onDisk('creating', folder, mkdir(folder, { recursive: true }))
  return join(await onDisk('resolving', folder, realpath(folder)), basename(destination))
}
