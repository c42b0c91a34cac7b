// Rows of the table of faults (`npm run test:faults`). Each row is a test: it brings one fault on a download and judges how that
// ends. Whatever the fault, the download ends in the right file or in an error with a code, nothing wrong has the final name
// meanwhile, no exception goes astray, and once the fault is gone the next call gets the right file and leaves nothing beside it.
import assert from 'node:assert/strict'
import { appendFileSync, existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { ModelDownloadErrorCode } from '#download/errors'
import type { DownloadOptions } from '#download/file'
import { openDownloadFolder, type Payload, published, sha256Of } from './download-folder.ts'
import {
  type DownloadProgress,
  downloadFile,
  ModelDownloadError,
  type ModelSource,
  pruneFolder,
  type ResolvedSource,
  resolveSource,
} from './download-internals.ts'
import type { Fault, ModelServer, ModelServerOptions, ServedFile } from './model-server.ts'
import { until } from './until.ts'

/** The long form: every row also over several connections, and many more kills. */
export const isLong = process.env.OS_MUTEX_FAULTS === 'all'

/** `aborted`: with the signal's own reason. `ERR_MUTEX_TIMEOUT`: another process was waited for. */
type Ends = 'right file' | 'aborted' | 'ERR_MUTEX_TIMEOUT' | ModelDownloadErrorCode

export type Ending =
  | { readonly model: { readonly path: string; readonly bytes: number; readonly sha256?: string } }
  | { readonly error: unknown }

/** An item of the list that the download was built by: `A2`. scripts/faults.mjs says which of them no row guards. */
type Item = `${'A' | 'B' | 'C' | 'D' | 'E'}${number}`

export interface RowOptions {
  /** The row fails when this is not kept to. */
  readonly guards?: Item | readonly Item[]
  /** How the download ends under the fault; one of them where chance decides. */
  readonly ends: Ends | readonly Ends[]
  /** How it ends over several connections, where that differs. Unless told, in the right file or as over one. */
  readonly segmentedEnds?: Ends | readonly Ends[]
  /** How many requests the file's path gets under the fault, over one connection. */
  readonly requests?: number
  /** Size of the model over one connection. 256 KiB unless told. */
  readonly bytes?: number
  readonly stallMs?: number
  readonly retryDelaysMs?: readonly number[]
  readonly etag?: string | null
  /** How the server serves every version of the model: validators, conditions, time to the first byte. */
  readonly served?: Partial<Omit<ServedFile, 'file'>>
  /** The server itself: its connections and their speed. */
  readonly server?: ModelServerOptions
  /** How long the server takes for the whole model. As fast as it can unless told. */
  readonly servedInMs?: number
  /** Which form makes sense. `both` unless told; over several connections only in the long form, but `segmented` rows always. */
  readonly only?: 'one piece' | 'segmented'
  /** Files that rightly stay beside the model. */
  readonly strays?: RegExp
  readonly skip?: string | false
}

type Faults = Fault | readonly Fault[]
type Bring = (scene: FaultScene) => Promise<Ending>

const KiB = 1024
const MiB = 1024 * KiB
export const path = '/model.gguf'
const defaultBytes = 256 * KiB
/** Enough for several connections. */
const segmentedBytes = 20 * MiB
const longestMs = 20_000

/** What a row works with. */
export class FaultScene {
  readonly t: TestContext
  readonly server: ModelServer
  readonly isSegmented: boolean
  /** The served model. */
  file: Payload
  url: string
  /** Of the calls under the fault and of the one after it. */
  options: Partial<DownloadOptions>
  source: Partial<Exclude<ModelSource, string>> = {}
  /** What a source leads to. */
  resolve: (source: ModelSource) => ResolvedSource = resolveSource
  /** Progress with more done than there is, or less than before. */
  readonly impossible: DownloadProgress[] = []
  /** Takes the fault away. */
  readonly mends: (() => unknown)[] = []
  readonly reason = new Error('the row has aborted the download')
  readonly #payload: (bytes: number) => Payload
  readonly #bytes: number
  readonly #right = new Set<string>()
  #models: string
  readonly #served: Partial<ServedFile>

  constructor(
    t: TestContext,
    folder: Awaited<ReturnType<typeof openDownloadFolder>>,
    row: RowOptions,
    isSegmented: boolean,
  ) {
    this.t = t
    this.server = folder.server
    this.isSegmented = isSegmented
    this.#payload = folder.payload
    this.#bytes = bytesOf(row, isSegmented)
    this.#models = folder.models
    this.#served = { ...(row.etag !== undefined && { etag: row.etag }), ...row.served }
    const { retryDelaysMs = [1, 2, 4], stallMs = 3_000 } = row
    const limits = { headersTimeoutMs: stallMs, bodyTimeoutMs: stallMs }
    this.options = { retryDelaysMs, ...limits, ...(isSegmented && { connections: 4 }) }
    this.file = this.payload()
    this.url = this.serve(this.file)
  }

  get models(): string {
    return this.#models
  }

  /** Another folder, from now on. */
  set models(folder: string) {
    this.#models = folder
  }

  get destination(): string {
    return join(this.#models, 'model.gguf')
  }

  /** Another model, of the same size unless told. */
  payload(bytes = this.#bytes): Payload {
    return this.#payload(bytes)
  }

  /** Serves it from now on, so that it is a right file, too. */
  serve(file: Payload, served: Partial<ServedFile> = {}, at = path): string {
    this.#right.add(file.sha256)
    this.file = file
    return this.server.serve(at, { file: file.path, ...this.#served, ...served })
  }

  /** A download. Fails when it does not end. */
  async get(options: Partial<DownloadOptions> = {}, source: Partial<Exclude<ModelSource, string>> = {}) {
    const wanted = this.resolve({ url: this.url, ...this.source, ...source })
    const all = { ...this.options, ...options }
    const onProgress = this.#checked(all.onProgress)
    return ending(downloadFile({ source: wanted, destination: this.destination, ...all, onProgress }))
  }

  /** Notes what no progress bar could show. */
  #checked(listener: DownloadOptions['onProgress']): (progress: DownloadProgress) => void {
    let last: DownloadProgress | undefined
    return (progress) => {
      const { phase, done, total } = progress
      if (total !== undefined && done > total) this.impossible.push(progress)
      if (last?.phase === phase && done < last.done) this.impossible.push(progress)
      last = progress
      listener?.(progress)
    }
  }

  /** Leaves a partial: of the first half over one connection, of some pieces over several. */
  async leaveHalf(): Promise<void> {
    this.server.fault(path, { kind: 'cut', atByte: this.file.bytes / 2 })
    assert.ok('error' in (await this.get({ retryDelaysMs: [] })))
    this.server.fault(path, undefined)
    assert.equal(this.partials.length, 1)
  }

  get partials(): string[] {
    return this.list().filter((name) => name.endsWith('.os-mutex-partial'))
  }

  /** The one partial's path. */
  get partial(): string {
    const [name, ...others] = this.partials
    assert.ok(name !== undefined && others.length === 0, `partials: ${this.partials}`)
    return join(this.#models, name)
  }

  /** Resolves once so many bytes of the model are in the one partial, or over several connections some. */
  async received(bytes: number): Promise<void> {
    const size = () => (this.partials.length === 1 ? statSync(this.partial).size : 0)
    await this.server.reached(path, bytes)
    await until('they are on the disk', () => size() >= (this.isSegmented ? 1 : bytes))
  }

  list(): string[] {
    try {
      // The folder's locks stay.
      return readdirSync(this.#models)
        .filter((name) => name !== '.locks')
        .sort()
    } catch {
      return []
    }
  }

  /** Whatever has the final name has been a right file under it. */
  assertNothingWrong(): void {
    if (existsSync(this.destination) && statSync(this.destination).isFile())
      assert.ok(this.#right.has(sha256Of(this.destination)), 'a wrong file has the final name')
  }

  /** How it ended, if that is an end that may be. */
  judge(end: Ending): string {
    if ('model' in end) {
      const { model } = end
      const sha256 = sha256Of(model.path)
      assert.ok(this.#right.has(sha256), `a wrong file was published: ${statSync(model.path).size} bytes`)
      // What was used as it was found is not vouched for.
      assert.deepEqual([model.bytes, model.sha256 ?? sha256], [statSync(model.path).size, sha256])
      return 'right file'
    }
    const { error } = end
    this.assertNothingWrong()
    if (error === this.reason) return 'aborted'
    const { name, code, message } = error as Error & { code?: string }
    assert.ok(error instanceof ModelDownloadError || code === 'ERR_MUTEX_TIMEOUT', `not our error: ${name}: ${message}`)
    const isClear =
      message.length > 20 && !/undefined|NaN|\[object/.test(message) && /[/\\]|models\.invalid/.test(message)
    assert.ok(isClear, `not a clear message: ${message}`)
    return String(code)
  }

  /** Takes the fault away, and proves that nothing of it is left. */
  async recover(strays: RegExp | undefined): Promise<void> {
    this.server.fault(path, undefined)
    this.server.resume(path)
    this.server.hangUp(undefined)
    for (const mend of this.mends) await mend()
    const end = await this.get()
    if ('error' in end) throw new Error(`the next call failed, too: ${messageOf(end)}`, { cause: end.error })
    assert.equal(this.judge(end), 'right file')
    assert.equal(end.model.path, this.destination)
    // Windows tells of a killed process's end before it has closed its files: what could not be removed then is for the next tidying.
    if (process.platform === 'win32') await pruneFolder(this.#models, 0)
    const beside = this.list().filter((name) => !strays?.test(name))
    assert.deepEqual(beside, published, 'what is in the folder afterwards')
  }
}

function bytesOf({ bytes = defaultBytes }: RowOptions, isSegmented: boolean): number {
  return isSegmented ? segmentedBytes : bytes
}

/** How it ended. Fails when it does not end. */
export async function ending(work: Promise<{ path: string; bytes: number; sha256?: string }>): Promise<Ending> {
  const settled = work.then(
    (model): Ending => ({ model }),
    (error: unknown): Ending => ({ error }),
  )
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`HANGS: no end after ${longestMs / 1000} s`)), longestMs)
  })
  try {
    return await Promise.race([settled, late])
  } finally {
    clearTimeout(timer)
  }
}

/** One row. `bring` is a fault of the server, several of them in turn, or whatever else goes wrong around a download. */
export function fault(
  name: string,
  row: RowOptions,
  bring: Faults | ((scene: FaultScene) => Faults | Promise<Ending>),
): void {
  const inForm = (isSegmented: boolean) => {
    const run: Bring = (scene) => {
      const brought = typeof bring === 'function' ? bring(scene) : bring
      if (brought instanceof Promise) return brought
      const faults = [brought].flat()
      // The first answer must be a good one, or there is no second connection.
      const last = faults.at(-1)
      scene.server.fault(path, isSegmented && last ? { ...last, after: 1 } : faults)
      return scene.get()
    }
    const shown = isSegmented ? `${name} [4 connections]` : name
    test(`${shown}: ${[row.ends].flat().join(' or ')}`, { skip: row.skip ?? false, timeout: 120_000 }, (t) =>
      judged(shown, row, t, isSegmented, run),
    )
  }
  if (row.only !== 'segmented') inForm(false)
  if (row.only === 'segmented' || (isLong && row.only === undefined)) inForm(true)
}

async function judged(name: string, row: RowOptions, t: TestContext, isSegmented: boolean, run: Bring) {
  const astray: unknown[] = []
  const note = (error: unknown) => void astray.push(error)
  for (const event of ['uncaughtExceptionMonitor', 'unhandledRejection']) process.on(event, note)
  const guards = [row.guards ?? []].flat()
  tell({ name, guards, begins: true })
  const line = { got: '', requests: 0, ms: 0 }
  try {
    const { servedInMs } = row
    const bytesPerSecond = servedInMs && (bytesOf(row, isSegmented) / servedInMs) * 1000
    const folder = await openDownloadFolder(t, { ...(bytesPerSecond && { bytesPerSecond }), ...row.server })
    const scene = new FaultScene(t, folder, row, isSegmented)
    const begun = performance.now()
    const end = await run(scene)
    line.ms = Math.round(performance.now() - begun)
    line.requests = scene.server.requests(path).length
    line.got = scene.judge(end)
    const { ends, segmentedEnds = [...new Set([ends, 'right file' as const].flat())] } = row
    const may = [isSegmented ? segmentedEnds : ends].flat()
    assert.ok((may as string[]).includes(line.got), `${line.got} instead of ${may.join(' or ')}: ${messageOf(end)}`)
    if (row.requests !== undefined && !isSegmented) assert.equal(line.requests, row.requests, 'requests')
    await scene.recover(row.strays)
    // An exception that goes astray does so when sockets close, a turn or two later.
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    assert.deepEqual(astray, [], 'exceptions that nobody caught')
    assert.deepEqual(scene.impossible, [], 'progress that can not be')
    tell({ name, guards, ...line })
  } catch (error) {
    tell({ name, guards, ...line, problem: String((error as Error).message ?? error) })
    throw error
  } finally {
    for (const event of ['uncaughtExceptionMonitor', 'unhandledRejection']) process.off(event, note)
  }
}

function messageOf(end: Ending): string {
  return 'error' in end ? String((end.error as Error).message) : ''
}

export interface RowReport {
  readonly file: string
  readonly name: string
  readonly guards: readonly Item[]
  readonly begins?: true
  readonly got?: string
  readonly requests?: number
  readonly ms?: number
  /** What is not as it should be. */
  readonly problem?: string
}

/** To scripts/faults.mjs, if it listens. */
function tell(report: Omit<RowReport, 'file'>): void {
  const to = process.env.OS_MUTEX_FAULT_TABLE
  if (to !== undefined) appendFileSync(to, `${JSON.stringify({ file: basename(process.argv[1] ?? ''), ...report })}\n`)
}
