// Getting one model's file: from the cache without a lock, else by one download at a time on the machine and in the folder.
import { mkdir, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { isReadOnly, onDisk } from '../download/disk/files.ts'
import type { FetchPolicy } from '../download/download.ts'
import { defaultPatienceMs } from '../download/file.ts'
import { checkDispatcher, type RequestDispatcher } from '../download/http/dispatcher.ts'
import { Model } from '../download/model.ts'
import type { DownloadProgress } from '../download/progress.ts'
import { findLocal } from '../download/published/local-file.ts'
import { checkMirror, mirror } from '../download/published/mirror.ts'
import type { PublishedModel } from '../download/published/verify.ts'
import type { ModelSource } from '../download/source/parse.ts'
import { resolveRequest } from '../download/source/resolve.ts'
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
  readonly onProgress?: ((progress: ModelProgress) => void) | undefined
  /** Ends the wait or the download; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined
  /**
   * How long to wait for another process's download, and to try one's own, without 64 KiB of new bytes, in milliseconds.
   * Default: the gate's `downloadTimeoutMs`.
   */
  readonly timeoutMs?: number | undefined
  /** Whether a server is asked: see `FetchPolicy`. Default: `if-missing`; `HF_HUB_OFFLINE` makes it `never` for the hub. */
  readonly fetch?: FetchPolicy | undefined
  /**
   * A second path for the file: a hard link where one can be made, else a copy. Of a split model the path of the first part,
   * with the `-00001-of-…` of its name. A file that is there and is no mirror of this model is not replaced.
   */
  readonly mirrorTo?: string | undefined
  /**
   * Whether a file that has the name (`fileName`, or that of `mirrorTo`), and is another source's or nobody knows whose, is
   * replaced. Default: `false`.
   */
  readonly replace?: boolean | undefined
  /** How many connections to use, 1 to 32. Default: as many as make it faster, up to 8. */
  readonly connections?: number | undefined
  /** Whether what was received stays when `signal` ends the download, to be resumed. Default: `true`. */
  readonly keepPartial?: boolean | undefined
  /**
   * A dispatcher of undici 6, 7 or 8, or the one inside Node: connections that you set up (a proxy, an interceptor). It stays open.
   * Default: our own connections, by way of the proxy that the environment names, if any.
   */
  readonly dispatcher?: RequestDispatcher | undefined
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
  return await downloadUnderLock(model, call, locks, {
    waitedMs: machine.waitedMs,
    abandoned,
    patienceMs: patience.unusedMs,
  })
}

/** The bytes that a download has, as it told last. */
type Got = Pick<DownloadProgress, 'done' | 'total'>

/** The previous owner may have published the file while this process waited; if it died, its work is verified again. */
async function downloadUnderLock(
  model: Model,
  call: Call,
  locks: HeldLocks,
  lock: { readonly waitedMs: number; readonly abandoned: boolean; readonly patienceMs: number },
): Promise<PublishedModel> {
  const { fetch, options } = call
  const { onProgress } = options
  if (!lock.abandoned && fetch !== 'always') {
    const published = await model.find()
    if (published !== undefined) {
      onProgress?.({ phase: 'waiting', done: published.bytes, total: published.bytes })
      return published
    }
  }
  let got: Got = { done: 0 }
  return observed('download', model.path, lock, () =>
    model.download({
      verifyAgain: lock.abandoned,
      // Without a limit for the wait there is the default one for the download.
      ...(lock.patienceMs > 0 && { firstPatienceMs: lock.patienceMs }),
      guard: (path, replace) => underLoadLock(path, replace, call, { download: locks, got }),
      onProgress: (progress) => {
        const { done, total } = progress
        got = { done, ...(total !== undefined && { total }) }
        locks.report({ ...got, unit: 'bytes' })
        onProgress?.(progress)
      },
    }),
  )
}

/**
 * Whoever is about to load the file has compared it with what he wants: until he has it open, it stays. Those who wait for
 * this download wait for him, too.
 */
async function underLoadLock(
  path: string,
  replace: () => Promise<void>,
  { settings, patienceMs, options }: Call,
  { download, got }: { readonly download: HeldLocks; readonly got: Got },
): Promise<void> {
  const real = await realpath(path).catch(() => undefined)
  if (real === undefined) return replace()
  const tell = options.onProgress && reportWaiting(options.onProgress, got)
  using locks = new HeldLocks({
    mutexOptions: settings.mutexOptions,
    // 0 is for the wait before the download, which is done.
    patience: new Patience({
      limitMs: patienceMs || settings.downloadTimeoutMs || defaultPatienceMs,
      extendWhileProgressing: settings.extendWhileProgressing,
      beginsAtZero: true,
    }),
    purpose: `replace ${basename(path)}`,
    work: `replace ${path}, which is being loaded`,
    limitOption: 'downloadTimeoutMs',
    signal: options.signal,
    onLook: (owner) => {
      tell?.(owner)
      download.passOn(owner)
    },
  })
  await locks.take(modelMutexName(settings.prefix, real))
  await replace()
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

/** The same for every way of naming the folder, so that all processes agree on the mutex. The file need not exist. */
async function canonicalPath(destination: string): Promise<string> {
  const folder = dirname(destination)
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    // What is there need not be made, and what can't be made may still be read.
    if (!isReadOnly(error)) return onDisk('creating', folder, Promise.reject(error))
    return undefined
  })
  return join(await onDisk('resolving', folder, realpath(folder)), basename(destination))
}
