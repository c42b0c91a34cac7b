// One file by one call: all steps of its download, over connections of its own.
import { dirname } from 'node:path'
import { allowManyWaits } from '../mutex/options.ts'
import { Download, type FetchPolicy, type FileOptions } from './download.ts'
import { openConnections } from './http/connections.ts'
import type { RequestDispatcher } from './http/dispatcher.ts'
import type { TimeLimits } from './http/exchange.ts'
import type { SpeedLimit } from './http/low-speed.ts'
import { defaultRetryDelaysMs } from './http/retry.ts'
import { sweep } from './partial/room.ts'
import type { DownloadProgress } from './progress.ts'
import type { GuardReplacement } from './published/publish.ts'
import type { PublishedFile } from './published/verify.ts'
import type { ResolvedSource } from './source/parse.ts'

/** What a download needs besides its source. All have defaults. */
export interface TransferOptions extends Partial<TimeLimits> {
  /** Rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined
  /** Default `if-missing`; see `FetchPolicy`. */
  readonly fetch?: FetchPolicy | undefined
  /** Whether a file of another source, or of nobody knows whom, may be replaced. Default false. */
  readonly replace?: boolean | undefined
  /** Whether an abort leaves what was received, to be resumed. Default true. */
  readonly keepPartial?: boolean | undefined
  /** Hash a file that is there already before trusting it. For a caller who knows that an earlier owner crashed. */
  readonly verifyAgain?: boolean | undefined
  /** Default: an agent of this download's own. */
  readonly dispatcher?: RequestDispatcher | undefined
  /** Waits before the tries that follow a failure which kept no new byte. Default 1 s, 2 s, 4 s. */
  readonly retryDelaysMs?: readonly number[] | undefined
  /** How many connections to use. Default: as many as make it faster, up to 8. */
  readonly connections?: number | undefined
  /** Default: 1 KiB/s over 5 minutes. */
  readonly speedLimit?: SpeedLimit | undefined
  /** How long tries may go on without 64 KiB of new bytes. Default: 5 minutes. */
  readonly patienceMs?: number | undefined
  /** How much of that is left at its beginning. Default: all of it. */
  readonly firstPatienceMs?: number | undefined
  readonly guard?: GuardReplacement | undefined
}

export const defaultLimits: TimeLimits = { headersTimeoutMs: 300_000, bodyTimeoutMs: 30_000 }
export const defaultPatienceMs = 300_000
export const defaultSpeedLimit: SpeedLimit = { bytesPerSecond: 1024, timeMs: 300_000 }

/** Runs `work` with what it takes to download, and closes all connections after it. */
export async function withConnections<T>(
  options: TransferOptions,
  work: (options: FileOptions) => Promise<T>,
): Promise<T> {
  const { signal } = options
  signal?.throwIfAborted()
  // One signal for many models: each of them waits by it, for an answer, for its next try, for the disk.
  if (signal) allowManyWaits(signal)
  const limits = {
    headersTimeoutMs: options.headersTimeoutMs ?? defaultLimits.headersTimeoutMs,
    bodyTimeoutMs: options.bodyTimeoutMs ?? defaultLimits.bodyTimeoutMs,
  }
  const line = openConnections(options.dispatcher, limits.bodyTimeoutMs)
  try {
    return await work({
      http: { dispatcher: line.dispatcher, limits, signal, secrets: line.secrets },
      onProgress: options.onProgress,
      fetch: options.fetch ?? 'if-missing',
      replace: options.replace ?? false,
      keepPartial: options.keepPartial ?? true,
      verifyAgain: options.verifyAgain ?? false,
      retryDelaysMs: options.retryDelaysMs ?? defaultRetryDelaysMs,
      speedLimit: options.speedLimit ?? defaultSpeedLimit,
      patienceMs: options.patienceMs ?? defaultPatienceMs,
      firstPatienceMs: options.firstPatienceMs ?? options.patienceMs ?? defaultPatienceMs,
      connections: options.connections,
      guard: options.guard,
    })
  } catch (error) {
    throw signal?.aborted ? signal.reason : error
  } finally {
    line.close()
  }
}

export interface DownloadOptions extends TransferOptions {
  /** From `resolveSource`. */
  readonly source: ResolvedSource
  /** Absolute path of the published file. Its folder is created where it is missing. */
  readonly destination: string
}

/**
 * Publishes the source's file at `destination`, or finds it there. Resumes what an earlier call left, where that is
 * provably the beginning of the same file.
 *
 * @throws {ModelDownloadError} see there; on any failure nothing new is under the final name.
 */
export function downloadFile({ source, destination, ...options }: DownloadOptions): Promise<PublishedFile> {
  return withConnections(options, (fileOptions) => downloadOne(new Download(source, destination, fileOptions)))
}

export async function downloadOne(download: Download): Promise<PublishedFile> {
  try {
    const there = await download.look()
    if (there) return there
    const result = await download.fetch()
    if (!('manifest' in result)) return result
    const published = await download.publish(result)
    await sweep(dirname(download.destination))
    return published
  } catch (error) {
    await download.letGo()
    throw error
  }
}
