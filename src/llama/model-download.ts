// Getting one model's file: from the cache without a lock, else by one download at a time on the machine.
import { mkdir, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import type { Dispatcher } from 'undici'
import { onDisk } from '../download/disk/files.ts'
import { defaultStallMs, downloadFile, type FetchPolicy } from '../download/download.ts'
import { ModelDownloadError, notHere } from '../download/errors.ts'
import { checkDispatcher, openConnections } from '../download/http/connections.ts'
import { askForTag } from '../download/http/hub-tag.ts'
import { Remote } from '../download/http/remote.ts'
import type { DownloadProgress } from '../download/progress.ts'
import { findLocal } from '../download/published/local-file.ts'
import { isMirrored, mirror } from '../download/published/mirror.ts'
import { asSplit, findPublished, type PublishedFile, type PublishedModel } from '../download/published/verify.ts'
import { keepTag, recallTag } from '../download/source/hub-tag.ts'
import type { ModelSource, ResolvedSource } from '../download/source/parse.ts'
import { type ModelFiles, resolveRequest, type TagRequest, tagWords } from '../download/source/resolve.ts'
import { describeOwner } from '../mutex/describe-owner.ts'
import type { MutexLock } from '../mutex/mutex-lock.ts'
import { NamedMutex } from '../mutex/named-mutex.ts'
import { allowManyWaits, checkKnown, checkOptions, checkTimeout, invalidArgument, namesOf } from '../mutex/options.ts'
import type { GateSettings } from './gate-options.ts'
import { downloadMutexName, modelMutexName } from './mutex-names.ts'
import { observed } from './telemetry.ts'
import { acquireWhileProgressing } from './wait/progressing-wait.ts'
import { waitTimeoutError } from './wait/wait-timeout.ts'
import { reportWaiting, type WaitingProgress } from './wait/waiting-progress.ts'

/** What happens to the file: here, or in another process that this one waits for (`phase: 'waiting'`). */
export type ModelProgress = DownloadProgress | WaitingProgress

export interface EnsureModelOptions {
  /** Called at most ten times a second, and at least once for a file that was not there already. */
  readonly onProgress?: (progress: ModelProgress) => void
  /** Ends the wait or the download; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal
  /** How long to wait for another process's download, in milliseconds. The gate's `downloadTimeoutMs` unless told. */
  readonly timeoutMs?: number
  /** Whether a server is asked: see `FetchPolicy`. `if-missing` unless told; `HF_HUB_OFFLINE` makes it `never` for the hub. */
  readonly fetch?: FetchPolicy
  /**
   * A second path for the file: a hard link where one can be made, else a copy. Of a split model the path of the first part,
   * with the `-00001-of-…` of its name.
   */
  readonly mirrorTo?: string
  /** How many connections to use, 1 to 32. Unless told, as many as make it faster, up to 8. */
  readonly connections?: number
  /** Whether what was received stays when `signal` ends the download, to be resumed. `true` unless told. */
  readonly keepPartial?: boolean
  /** undici's: connections of your own making (a proxy, an interceptor). Unless told, the proxy that the environment names, if any. */
  readonly dispatcher?: Dispatcher
}

const ENSURE_MODEL = namesOf<EnsureModelOptions>({
  onProgress: true,
  signal: true,
  timeoutMs: true,
  fetch: true,
  mirrorTo: true,
  connections: true,
  keepPartial: true,
  dispatcher: true,
})

export async function ensureModel(
  input: ModelSource,
  options: EnsureModelOptions,
  settings: GateSettings,
): Promise<PublishedModel> {
  checkOptions(options)
  checkKnown(options, ENSURE_MODEL, 'ensureModel()')
  const { signal, timeoutMs = settings.downloadTimeoutMs, connections = 1 } = options
  checkTimeout('timeoutMs', timeoutMs)
  if (!Number.isInteger(connections) || connections < 1 || connections > 32) {
    throw invalidArgument(`\`connections\` must be a whole number from 1 to 32, not ${String(connections)}`)
  }
  if (!['if-missing', 'always', 'never'].includes(options.fetch ?? 'never')) {
    throw invalidArgument(`\`fetch\` must be 'if-missing', 'always' or 'never', not ${JSON.stringify(options.fetch)}`)
  }
  if (options.dispatcher !== undefined) checkDispatcher(options.dispatcher)
  signal?.throwIfAborted()
  if (signal) allowManyWaits(signal)
  const request = resolveRequest(input, settings.modelsDirectory)
  if (request.kind === 'local') {
    const file = await findLocal({ ...request, path: request.paths[0] }, { signal })
    if (options.mirrorTo !== undefined) await mirror(file.path, resolve(options.mirrorTo), signal)
    return file
  }
  const fetch = request.isOffline ? 'never' : (options.fetch ?? 'if-missing')
  const files = request.kind === 'tag' ? await filesOfTag(request, { ...options, fetch }, settings) : request.files
  const call: Call = { options, fetch, settings, targets: targetsOf(files, options, settings) }
  const cached = fetch === 'always' ? undefined : await findAll(call)
  if (cached !== undefined && (await areMirrored(call))) return cached
  return ensureUnderLock(call)
}

/** One call of `ensureModel`. */
interface Call {
  readonly options: EnsureModelOptions
  readonly fetch: FetchPolicy
  readonly settings: GateSettings
  readonly targets: readonly [Target, ...Target[]]
}

interface Target {
  readonly source: ResolvedSource
  readonly destination: string
  readonly mirrorTo: string | undefined
}

/** Which files a tag means: by what is known of it here where that will do, else by the hub's word. */
async function filesOfTag(
  request: TagRequest,
  { fetch, signal, dispatcher }: EnsureModelOptions,
  { modelsDirectory }: GateSettings,
): Promise<ModelFiles> {
  const known =
    fetch === 'always' ? undefined : await recallTag(request, modelsDirectory, { anyHub: fetch === 'never' })
  if (known) return request.filesAt(known)
  if (fetch === 'never') {
    throw notHere(tagWords(request.tag), 'the hub, which knows what file that is, must not be asked for it')
  }
  const line = openConnections(dispatcher, defaultStallMs)
  try {
    const path = await askForTag(request, { dispatcher: line.dispatcher, signal, stallMs: defaultStallMs })
    const files = request.filesAt(path)
    await keepTag(request, path, modelsDirectory, signal)
    return files
  } finally {
    line.close()
  }
}

function targetsOf(
  files: ModelFiles,
  { mirrorTo }: EnsureModelOptions,
  { modelsDirectory }: GateSettings,
): readonly [Target, ...Target[]] {
  const suffix = /-00001-(of-\d{5}\.gguf)$/
  if (mirrorTo !== undefined && files.length > 1 && !suffix.test(mirrorTo)) {
    const name = basename(files[0].fileName)
    throw invalidArgument(
      `\`mirrorTo\` of a split model must end as the name of its first part, ${name}, does: llama.cpp finds the others by it`,
    )
  }
  const target = (source: ResolvedSource, index: number): Target => ({
    source,
    destination: join(modelsDirectory, source.fileName),
    mirrorTo:
      mirrorTo &&
      resolve(files.length > 1 ? mirrorTo.replace(suffix, `-${String(index + 1).padStart(5, '0')}-$1`) : mirrorTo),
  })
  const [first, ...rest] = files
  return [target(first, 0), ...rest.map((source, index) => target(source, index + 1))]
}

/** All files, if all are there and right: a look at each, no lock, no request. */
async function findAll({ targets }: Call): Promise<PublishedModel | undefined> {
  const found = await Promise.all(targets.map(({ destination, source }) => findPublished(destination, source)))
  return asModel(
    found.filter((file) => file !== undefined),
    targets.length,
  )
}

function asModel(files: readonly PublishedFile[], count: number): PublishedModel | undefined {
  const [first, ...rest] = files
  if (first === undefined || files.length < count) return undefined
  return count === 1 ? first : asSplit([first, ...rest])
}

async function areMirrored({ targets }: Call): Promise<boolean> {
  const looks = targets.map(async ({ destination, mirrorTo }) => !mirrorTo || isMirrored(destination, mirrorTo))
  return (await Promise.all(looks)).every(Boolean)
}

async function ensureUnderLock(call: Call): Promise<PublishedModel> {
  const { options, settings } = call
  const { onProgress, signal, timeoutMs = settings.downloadTimeoutMs } = options
  const { destination } = call.targets[0]
  const name = downloadMutexName(settings.prefix, await canonicalPath(destination))
  using mutex = new NamedMutex(name, settings.mutexOptions)
  const lock = await acquireWhileProgressing(mutex, {
    limitMs: timeoutMs,
    extendWhileProgressing: settings.extendWhileProgressing,
    purpose: `download ${basename(destination)}`,
    signal,
    timeoutError: (state) =>
      waitTimeoutError(`download ${destination}`, 'downloadTimeoutMs', { mutexName: name, timeoutMs }, state),
    onLook: onProgress && reportWaiting(onProgress),
  })
  try {
    const model = await downloadUnderLock(call, lock)
    for (const { destination, mirrorTo } of call.targets) if (mirrorTo) await mirror(destination, mirrorTo, signal)
    return model
  } catch (error) {
    throw await withLoader(error, settings)
  } finally {
    lock.release()
  }
}

/** The previous owner may have published the file while this process waited; if it died, its work is verified again. */
async function downloadUnderLock(call: Call, lock: MutexLock): Promise<PublishedModel> {
  const { targets, options, fetch } = call
  if (!lock.abandoned && fetch !== 'always') {
    const published = await findAll(call)
    if (published !== undefined) {
      options.onProgress?.({ phase: 'waiting', done: published.bytes, total: published.bytes })
      return published
    }
  }
  return observed('download', targets[0].destination, lock, async () => {
    const whole = targets.length === 1 ? undefined : await sizeOfAll(call)
    const files: PublishedFile[] = []
    let before = 0
    for (const { source, destination } of targets) {
      const file = await downloadFile({
        source,
        destination,
        fetch,
        verifyAgain: lock.abandoned,
        deadOwner: lock.abandoned ? lock.previousOwner : undefined,
        signal: options.signal,
        keepPartial: options.keepPartial,
        connections: options.connections,
        dispatcher: options.dispatcher,
        onProgress: (progress) => {
          const told = targets.length === 1 ? progress : ofAll(progress, before, whole)
          const { done, total } = told
          lock.report({ done, unit: 'bytes', ...(total !== undefined && { total }) })
          options.onProgress?.(told)
        },
      })
      files.push(file)
      before += file.bytes
    }
    // As many as there are targets.
    return asModel(files, targets.length) as PublishedModel
  })
}

/** Progress of one part as progress of all. */
function ofAll(progress: DownloadProgress, before: number, whole: number | undefined): DownloadProgress {
  const { total: _, etaMs: __, ...rest } = progress
  const done = before + progress.done
  const rate = progress.bytesPerSecond
  return {
    ...rest,
    done,
    ...(whole !== undefined && { total: whole }),
    ...(whole !== undefined && rate && { etaMs: Math.max(0, ((whole - done) / rate) * 1000) }),
  }
}

/** Size of all parts together; `undefined` where a server does not tell it. */
async function sizeOfAll({ targets, options, fetch }: Call): Promise<number | undefined> {
  if (fetch === 'never') return undefined
  const line = openConnections(options.dispatcher, defaultStallMs)
  const sizeOf = async ({ source, destination }: Target) => {
    const there = await findPublished(destination, source)
    if (there) return there.bytes
    const remote = new Remote(source, { dispatcher: line.dispatcher, stallMs: defaultStallMs, signal: options.signal })
    return (await remote.head()).bytes
  }
  try {
    const sizes = await Promise.all(targets.map(sizeOf))
    return sizes.reduce((sum, size) => (sum === undefined || size === undefined ? undefined : sum + size), 0)
  } catch {
    options.signal?.throwIfAborted()
    return undefined
  } finally {
    line.close()
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
  await onDisk('creating', folder, mkdir(folder, { recursive: true }))
  return join(await onDisk('resolving', folder, realpath(folder)), basename(destination))
}
