// Getting one model's file: from the cache without a lock, else by one download at a time on the machine and in the folder.
import { mkdir, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Dispatcher } from 'undici'
import { onDisk } from '../download/disk/files.ts'
import type { FetchPolicy } from '../download/download.ts'
import { errnoOf, ModelDownloadError } from '../download/errors.ts'
import { checkDispatcher } from '../download/http/connections.ts'
import { Model } from '../download/model.ts'
import type { DownloadProgress } from '../download/progress.ts'
import { findLocal } from '../download/published/local-file.ts'
import { checkMirror, mirror } from '../download/published/mirror.ts'
import type { PublishedModel } from '../download/published/verify.ts'
import type { ModelSource } from '../download/source/parse.ts'
import { resolveRequest } from '../download/source/resolve.ts'
import { describeOwner } from '../mutex/describe-owner.ts'
import { NamedMutex } from '../mutex/named-mutex.ts'
import { allowManyWaits, checkKnown, checkOptions, checkTimeout, invalidArgument, namesOf } from '../mutex/options.ts'
import { takeFolderLock } from './folder-lock.ts'
import type { GateSettings } from './gate-options.ts'
import { HeldLocks } from './held-locks.ts'
import { downloadMutexName, modelMutexName } from './mutex-names.ts'
import { observed } from './telemetry.ts'
import { Patience } from './wait/patience.ts'
import { reportWaiting, type WaitingProgress } from './wait/waiting-progress.ts'

/** What happens to the file: here, or in another process that this one waits for (`phase: 'waiting'`). */
export type ModelProgress = DownloadProgress | WaitingProgress

export interface EnsureModelOptions {
  /** Called at most ten times a second, and at least once for a file that was not there already. */
  readonly onProgress?: (progress: ModelProgress) => void
  /** Ends the wait or the download; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal
  /**
   * How long to wait for another process's download, and to try one's own, without 64 KiB of new bytes, in milliseconds.
   * Default: the gate's `downloadTimeoutMs`.
   */
  readonly timeoutMs?: number
  /** Whether a server is asked: see `FetchPolicy`. Default: `if-missing`; `HF_HUB_OFFLINE` makes it `never` for the hub. */
  readonly fetch?: FetchPolicy
  /**
   * A second path for the file: a hard link where one can be made, else a copy. Of a split model the path of the first part,
   * with the `-00001-of-…` of its name. A file that is there and is no mirror of this model is not replaced.
   */
  readonly mirrorTo?: string
  /**
   * Whether a file that has the name (`fileName`, or that of `mirrorTo`), and is another source's or nobody knows whose, is
   * replaced. Default: `false`.
   */
  readonly replace?: boolean
  /** How many connections to use, 1 to 32. Default: as many as make it faster, up to 8. */
  readonly connections?: number
  /** Whether what was received stays when `signal` ends the download, to be resumed. Default: `true`. */
  readonly keepPartial?: boolean
  /** undici's: connections of your own making (a proxy, an interceptor). Default: the proxy that the environment names, if any. */
  readonly dispatcher?: Dispatcher
}

const ENSURE_MODEL = namesOf<EnsureModelOptions>({
  onProgress: true,
  signal: true,
  timeoutMs: true,
  fetch: true,
  mirrorTo: true,
  replace: true,
  connections: true,
  keepPartial: true,
  dispatcher: true,
})

export async function ensureModel(
  input: ModelSource,
  options: EnsureModelOptions,
  settings: GateSettings,
): Promise<PublishedModel> {
  checkEnsureOptions(options, settings)
  const { signal, keepPartial, connections, dispatcher, replace } = options
  signal?.throwIfAborted()
  // Copies and hashes wait by it, too.
  if (signal) allowManyWaits(signal)
  const request = resolveRequest(input, settings.modelsDirectory)
  if (request.kind === 'local') {
    const file = await findLocal(request, { signal })
    await mirrorAll(file, options)
    return file
  }
  const fetch = request.isOffline ? 'never' : (options.fetch ?? 'if-missing')
  const patienceMs = options.timeoutMs ?? settings.downloadTimeoutMs
  const { modelsDirectory, transfer } = settings
  // 0 is for the wait: it tries once.
  const limit = patienceMs > 0 ? { patienceMs } : {}
  const transferOptions = { fetch, ...limit, signal, keepPartial, connections, dispatcher, replace, ...transfer }
  const model = await Model.of(request, { ...transferOptions, modelsDirectory })
  mirrorPaths(model.count, options)
  const cached = fetch === 'always' ? undefined : await model.find()
  const file = cached ?? (await ensureRenamed(model, { options, fetch, settings, patienceMs }))
  await mirrorAll(file, options)
  return file
}

function checkEnsureOptions(options: EnsureModelOptions, settings: GateSettings): void {
  checkOptions(options)
  checkKnown(options, ENSURE_MODEL, 'ensureModel()')
  const { timeoutMs = settings.downloadTimeoutMs, connections = 1 } = options
  checkTimeout('timeoutMs', timeoutMs)
  if (!Number.isInteger(connections) || connections < 1 || connections > 32) {
    throw invalidArgument(`\`connections\` must be a whole number from 1 to 32, not ${String(connections)}`)
  }
  if (!['if-missing', 'always', 'never'].includes(options.fetch ?? 'never')) {
    throw invalidArgument(`\`fetch\` must be 'if-missing', 'always' or 'never', not ${JSON.stringify(options.fetch)}`)
  }
  if (options.dispatcher !== undefined) checkDispatcher(options.dispatcher)
}

/** One call of `ensureModel` that was not answered from the cache. */
interface Call {
  readonly options: EnsureModelOptions
  readonly fetch: FetchPolicy
  readonly settings: GateSettings
  readonly patienceMs: number
}

async function ensureRenamed(model: Model, call: Call): Promise<PublishedModel> {
  try {
    return await ensureUnderLock(model, call)
  } catch (error) {
    const renamed = await model.renamed(error)
    if (renamed === undefined) throw error
    return (await renamed.find()) ?? ensureUnderLock(renamed, call)
  }
}

async function ensureUnderLock(model: Model, call: Call): Promise<PublishedModel> {
  const { settings, patienceMs, options } = call
  const path = await canonicalPath(model.path)
  const patience = new Patience({ limitMs: patienceMs, extendWhileProgressing: settings.extendWhileProgressing })
  using locks = new HeldLocks({
    mutexOptions: settings.mutexOptions,
    patience,
    purpose: `download ${basename(path)}`,
    work: `download ${model.path}`,
    limitOption: 'downloadTimeoutMs',
    signal: options.signal,
    onLook: options.onProgress && reportWaiting(options.onProgress),
  })
  const machine = await locks.take(downloadMutexName(settings.prefix, path))
  const inFolder = await takeFolderLock(path, locks)
  const abandoned = machine.abandoned || inFolder?.abandoned === true
  try {
    return await downloadUnderLock(model, call, locks, {
      waitedMs: machine.waitedMs,
      abandoned,
      patienceMs: patience.unusedMs,
    })
  } catch (error) {
    throw await withLoader(error, settings)
  }
}

/** The previous owner may have published the file while this process waited; if it died, its work is verified again. */
async function downloadUnderLock(
  model: Model,
  { fetch, settings, options }: Call,
  locks: HeldLocks,
  got: { readonly waitedMs: number; readonly abandoned: boolean; readonly patienceMs: number },
): Promise<PublishedModel> {
  const { onProgress, signal } = options
  if (!got.abandoned && fetch !== 'always') {
    const published = await model.find()
    if (published !== undefined) {
      onProgress?.({ phase: 'waiting', done: published.bytes, total: published.bytes })
      return published
    }
  }
  return observed('download', model.path, got, () =>
    model.download({
      verifyAgain: got.abandoned,
      // Without a limit for the wait there is the default one for the download.
      ...(got.patienceMs > 0 && { firstPatienceMs: got.patienceMs }),
      guard: (path, replace) => underLoadLock(path, replace, settings, signal),
      onProgress: (progress) => {
        const { done, total } = progress
        locks.report({ done, unit: 'bytes', ...(total !== undefined && { total }) })
        onProgress?.(progress)
      },
    }),
  )
}

/** Whoever is about to load the file has compared it with what he wants: until he has it open, it stays. */
async function underLoadLock(
  path: string,
  replace: () => Promise<void>,
  settings: GateSettings,
  signal: AbortSignal | undefined,
): Promise<void> {
  const real = await realpath(path).catch(() => undefined)
  if (real === undefined) return replace()
  using mutex = new NamedMutex(modelMutexName(settings.prefix, real), settings.mutexOptions)
  const lock = await mutex.acquire({ purpose: `replace ${basename(path)}`, ...(signal && { signal }) })
  try {
    await replace()
  } finally {
    lock.release()
  }
}

const firstPart = /-00001-(of-\d{5}\.gguf)$/

/** Where the mirror of each file goes. */
function mirrorPaths(count: number, { mirrorTo }: EnsureModelOptions): string[] {
  if (mirrorTo === undefined) return []
  const path = resolve(mirrorTo)
  if (count === 1) return [path]
  if (!firstPart.test(path)) {
    throw invalidArgument(
      '`mirrorTo` of a split model must end as the name of its first part does, with -00001-of- and the count: llama.cpp finds the others by it',
    )
  }
  return Array.from({ length: count }, (_, index) =>
    path.replace(firstPart, `-${String(index + 1).padStart(5, '0')}-$1`),
  )
}

/** After the lock: a copy may take minutes, and nobody has to wait for it. */
async function mirrorAll(model: PublishedModel, options: EnsureModelOptions): Promise<void> {
  const { signal, onProgress, replace = false } = options
  const files = model.parts ?? [model]
  const places = mirrorPaths(files.length, options)
  const mirrored = files
    .slice(0, places.length)
    .map(({ path, bytes }, index) => ({ path, bytes, to: places[index] as string }))
  // All of a split model, or none.
  for (const { path, to } of mirrored) await checkMirror(path, to, { replace })
  let before = 0
  for (const { path, bytes, to } of mirrored) {
    const done = before
    const onBytes = (copied: number) => onProgress?.({ phase: 'copying', done: done + copied, total: model.bytes })
    await mirror(path, to, { signal, replace, onBytes })
    before += bytes
  }
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
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    // What is there need not be made, and what can't be made may still be read.
    if (errnoOf(error) !== 'EROFS' && errnoOf(error) !== 'EACCES')
      return onDisk('creating', folder, Promise.reject(error))
    return undefined
  })
  return join(await onDisk('resolving', folder, realpath(folder)), basename(destination))
}
