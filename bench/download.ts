// `npm run bench:download`: what a download costs, beside curl, aria2c and the downloaders of other packages, from nginx on the
// same machine, in one run. Linux. Options: `--mib=1024`, the size of the model, and `--rounds=3`.
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { makeTinyGguf } from '../test/support/tiny-gguf.ts'
import { fullSpeedParties, limitedParties, ourName, type Party, type Timing } from './support/download-parties.ts'
import { limitMibPerSecond, Nginx, type NginxFile } from './support/nginx.ts'
import { NodeDownloader, type NodeResult } from './support/node-downloader.ts'
import { digits, median, printTable } from './support/statistics.ts'

const MiB = 1024 * 1024
const PROCESSES = 16
const { values: options } = parseArgs({
  options: { mib: { type: 'string', default: '1024' }, rounds: { type: 'string', default: '3' } },
})
const mib = wholeNumber('mib', options.mib, 4)
const rounds = wholeNumber('rounds', options.rounds, 1)

// Loopback is no proxy's business. All children inherit it.
process.env.no_proxy = process.env.NO_PROXY = '127.0.0.1'

const root = mkdtempSync(path.join(os.tmpdir(), 'os-mutex-bench-'))
// After the children, which are ended at the same moment.
process.once('exit', () => rmSync(root, { recursive: true, force: true }))
process.once('SIGINT', () => process.exit(130))
const rows: string[][] = []

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= least) return value
  throw new Error(`--${name} must be a whole number of at least ${least}`)
}

function add(what: string, ours: string, beside: string, target = '', met?: boolean): void {
  rows.push([what, ours, beside, target, met === undefined ? '' : met ? 'yes' : 'NO'])
}

/** Which goes first is left to chance: every fixed order lets the same one pay for what another leaves behind. */
function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item)
}

/** An empty folder for `work`, with nothing of what was before left to be written to the disk. */
async function inFreshFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  execFileSync('sync')
  const folder = mkdtempSync(path.join(root, 'party-'))
  try {
    return await work(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function checkIsThere(name: string, folder: string, bytes: number): void {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => path.join(folder, file))
  if (files.some((file) => statSync(file).size === bytes)) return
  throw new Error(`${name} left no file of ${bytes} bytes; there is ${files.join(', ') || 'nothing'}`)
}

/** Each party's timings, a round after the other. */
async function race(parties: readonly Party[], bytes: number): Promise<Map<string, Timing[]>> {
  const timings = new Map(parties.map(({ name }) => [name, [] as Timing[]]))
  for (let round = 0; round < rounds; round++) {
    for (const party of shuffled(parties)) {
      const timing = await inFreshFolder(async (folder) => {
        const timing = await party.run(folder)
        checkIsThere(party.name, folder, bytes)
        return timing
      })
      timings.get(party.name)?.push(timing)
    }
  }
  return timings
}

function described(timings: readonly Timing[], bytes: number): string {
  const seconds = median(timings.map(({ ms }) => ms)) / 1000
  const processMs = timings.flatMap(({ node }) => (node ? [node.processMs] : []))
  const whole = processMs.length > 0 ? ` (process ${digits(median(processMs) / 1000)} s)` : ''
  return `${digits(seconds)} s${whole}, ${digits(bytes / MiB / seconds)} MiB/s`
}

/** One row for each of the others. */
async function compare(what: string, parties: readonly Party[], bytes: number): Promise<Map<string, Timing[]>> {
  const all = await race(parties, bytes)
  const ours = all.get(ourName) ?? []
  for (const { name, target } of parties) {
    const other = all.get(name) ?? []
    if (name === ourName) continue
    // Of the same round, so that both saw the same machine.
    const ratio = median(ours.map(({ ms }, round) => (other[round]?.ms ?? Number.NaN) / ms))
    const beside = `${name}: ${described(other, bytes)}, ratio ${digits(ratio)}`
    if (target === undefined) add(what, described(ours, bytes), beside)
    else add(what, described(ours, bytes), beside, `≥ ${target} × its speed`, ratio >= target)
  }
  return all
}

async function fullSpeed(server: Nginx, file: NginxFile): Promise<void> {
  const all = await compare(`${mib} MiB over loopback`, fullSpeedParties(server, file), file.bytes)
  const peaks = [...all].flatMap(([name, timings]) => {
    const megabytes = timings.flatMap(({ node }) => (node ? [node.peakRssBytes / 1e6] : []))
    return megabytes.length > 0 ? [{ name, megabytes: median(megabytes) }] : []
  })
  const ours = peaks.find(({ name }) => name === ourName)?.megabytes ?? Number.NaN
  const others = peaks.filter(({ name }) => name !== ourName)
  add(
    'its peak memory, above that of the process before',
    `${digits(ours)} MB`,
    others.map(({ name, megabytes }) => `${name} ${digits(megabytes)} MB`).join(', '),
    '≤ 120 MB',
    ours <= 120,
  )
}

async function limited(server: Nginx, file: NginxFile): Promise<void> {
  const what = `${mib} MiB, each connection limited to ${limitMibPerSecond} MiB/s`
  await compare(what, limitedParties(server, file), file.bytes)
}

/** So many processes ask their gates for one model at once: until the last has it, and how often its bytes were sent. */
async function gateProcesses(count: number, file: NginxFile): Promise<{ ms: number; copies: number }> {
  return inFreshFolder(async (folder) => {
    // A server of its own: the sum is right when it has ended.
    await using server = await Nginx.start(root, file)
    const models = path.join(folder, 'models')
    const downloaders: NodeDownloader[] = []
    try {
      while (downloaders.length < count) {
        downloaders.push(await NodeDownloader.start({ party: 'gate', url: server.url, folder: models }))
      }
      const startedAt = performance.now()
      for (const downloader of downloaders) downloader.send('go')
      const results = await Promise.all(downloaders.map((downloader) => downloader.done()))
      const ms = performance.now() - startedAt
      if (results.some(({ sha256 }) => sha256 !== file.sha256)) throw new Error('a gate gave the wrong bytes')
      await Promise.all(downloaders.map((downloader) => downloader.end()))
      return { ms, copies: (await server.stop()) / file.bytes }
    } finally {
      for (const downloader of downloaders) downloader[Symbol.dispose]()
    }
  })
}

async function manyProcesses(file: NginxFile): Promise<void> {
  const alone: number[] = []
  const together: number[] = []
  const copies: number[] = []
  for (let round = 0; round < rounds; round++) {
    for (const count of shuffled([1, PROCESSES])) {
      const result = await gateProcesses(count, file)
      if (count === 1) alone.push(result.ms)
      else {
        together.push(result.ms)
        copies.push(result.copies)
      }
    }
  }
  const what = `${PROCESSES} processes want one model of ${file.bytes / MiB} MiB`
  const most = Math.max(...copies)
  add(`${what}: bytes sent`, `${most.toFixed(3)} × its size at most`, '', '1.00 ×', most.toFixed(2) === '1.00')
  const ratio = median(together.map((ms, round) => ms / (alone[round] ?? Number.NaN)))
  add(
    `${what}: until all have it`,
    `${digits(median(together))} ms`,
    `one process alone ${digits(median(alone))} ms, ratio ${digits(ratio)}`,
    '≤ 1.1 × alone',
    ratio <= 1.1,
  )
}

interface Stalls {
  readonly owner: NodeResult
  readonly waiter: NodeResult
  readonly idle: NodeResult
}

/** One process downloads, one waits for it, and one does nothing meanwhile. */
async function stallsOnce(server: Nginx): Promise<Stalls> {
  return inFreshFolder(async (folder) => {
    const job = { url: server.url, folder: path.join(folder, 'models'), watchEventLoop: true }
    using owner = await NodeDownloader.start({ ...job, party: 'gate' })
    using waiter = await NodeDownloader.start({ ...job, party: 'gate' })
    using idle = await NodeDownloader.start({ ...job, party: 'idle' })
    idle.send('go')
    owner.send('go')
    await owner.begun()
    waiter.send('go')
    const [ownerResult, waiterResult] = await Promise.all([owner.done(), waiter.done()])
    idle.send('stop')
    if (!waiterResult.waited) throw new Error('the second process came too late to wait: the model is too small')
    return { owner: ownerResult, waiter: waiterResult, idle: await idle.done() }
  })
}

async function eventLoop(server: Nginx): Promise<void> {
  const all: Stalls[] = []
  for (let round = 0; round < rounds; round++) all.push(await stallsOnce(server))
  const stalls = (who: keyof Stalls) => all.map((round) => round[who].longestStallMs)
  const shown = (ms: readonly number[]) => `${digits(median(ms))} ms (worst ${digits(Math.max(...ms))})`
  for (const who of ['owner', 'waiter'] as const) {
    add(
      `longest stall of the event loop, ${who === 'owner' ? 'downloading' : 'waiting for it'}`,
      shown(stalls(who)),
      `an idle process meanwhile ${shown(stalls('idle'))}`,
      '≤ 20 ms',
      median(stalls(who)) <= 20,
    )
  }
}

function firstLine(command: string, args: readonly string[]): string {
  const { stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8' })
  if (error) throw new Error(`${command} could not be started: ${error.message}`)
  return `${stdout}${stderr}`.split('\n')[0] ?? ''
}

function version(packageName: string): string {
  const file = new URL(`../../node_modules/${packageName}/package.json`, import.meta.url)
  return `${packageName} ${(JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version}`
}

function printHead(): void {
  const cpu = os.cpus()[0]?.model ?? 'unknown CPU'
  const fileSystem = firstLine('stat', ['-f', '-c', '%T', root])
  const programs = [Nginx.version(), firstLine('curl', ['--version']), firstLine('aria2c', ['--version'])]
  const packages = ['node-llama-cpp', 'ipull', '@huggingface/hub'].map(version)
  console.log(`${cpu} × ${os.cpus().length}, ${os.type()} ${os.release()}, Node ${process.versions.node}`)
  console.log(`files in ${root} (${fileSystem}), ${rounds === 1 ? 'one round' : `medians of ${rounds} rounds`}`)
  console.log(`${[...programs.map((line) => line.split(' (')[0]), ...packages].join(', ')}\n`)
  if (mib < 1024)
    console.log('The targets are for 1024 MiB: a smaller model tries this program out, and nothing else.\n')
}

function makeModel(name: string, bytes: number): NginxFile {
  return makeTinyGguf({ path: path.join(root, name), bytes })
}

printHead()
const model = makeModel('model.gguf', mib * MiB)
await using server = await Nginx.start(root, model)
await fullSpeed(server, model)
await limited(server, model)
await eventLoop(server)
await manyProcesses(makeModel('quarter.gguf', (mib / 4) * MiB))
printTable(['what', 'os-mutex, median', 'beside', 'target', 'met'], rows)
