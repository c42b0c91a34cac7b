// `npm run bench:download`: what a download costs, beside curl, aria2c and the downloaders of other packages, from nginx on the
// same machine, in one run, as one card of figures. Linux, for root (namespaces); Debian has nginx-light, aria2 and iproute2.
//
//   npm run bench:download                                             all, 1024 MiB, medians of 3 rounds
//   npm run bench:download -- --mib=64 --rounds=1 --only=tls,tmpfs     a try
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { LimitedLink } from '../test/support/limited-link.ts'
import { makeTinyGguf } from '../test/support/tiny-gguf.ts'
import { DownloadCard } from './support/download-card.ts'
import { diskParties, limitedParties, loopbackParties, tlsParties } from './support/download-parties.ts'
import { badConnection, manyProcesses, stallsAndMemory } from './support/download-sharing.ts'
import { limitMibPerSecond, Nginx, type NginxFile } from './support/nginx.ts'
import { type Party, race, type Track } from './support/race.ts'

const MiB = 1024 * 1024
const LINK = { bitsPerSecond: 1e9 }
const { values: options } = parseArgs({
  options: {
    mib: { type: 'string', default: '1024' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string' },
  },
})
const mib = wholeNumber('mib', options.mib, 4)
const rounds = wholeNumber('rounds', options.rounds, 1)

// Loopback is no proxy's business, nor is the link. All children inherit it.
process.env.no_proxy = process.env.NO_PROXY = '127.0.0.1,10.77.0.1'

/** Removed after the children, which are ended at the same moment. */
function makeRoot(parent: string): string {
  const root = mkdtempSync(path.join(parent, 'os-mutex-bench-'))
  process.once('exit', () => rmSync(root, { recursive: true, force: true }))
  return root
}

process.once('SIGINT', () => process.exit(130))
const onDisk: Track = { root: makeRoot(os.tmpdir()), rounds }
const inMemory: Track = { root: makeRoot('/dev/shm'), rounds }
const card = new DownloadCard()

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= least) return value
  throw new Error(`--${name} must be a whole number of at least ${least}`)
}

const parts: Record<string, (model: NginxFile) => Promise<void>> = { tls, tmpfs, disk, limited, bad, many, stalls }

/** At 1 Gbit/s, into memory: the link is what holds it up, or should be. */
async function tls(model: NginxFile): Promise<void> {
  await using link = await LimitedLink.start(LINK)
  const on = { words: link.server, address: link.address }
  await using server = await Nginx.start(onDisk.root, model, { on, tls: true })
  const { certificate } = server
  const place = { words: link.client, ...(certificate !== undefined && { certificate }) }
  await compare(`${mib} MiB by TLS at 1 Gbit/s`, tlsParties(server, model, place), model, inMemory)
}

async function tmpfs(model: NginxFile): Promise<void> {
  await using server = await Nginx.start(onDisk.root, model)
  await compare(`${mib} MiB over loopback into tmpfs`, loopbackParties(server, model), model, inMemory)
}

async function disk(model: NginxFile): Promise<void> {
  await using server = await Nginx.start(onDisk.root, model)
  await compare(`${mib} MiB over loopback onto the disk`, diskParties(server, model), model, onDisk)
}

async function limited(model: NginxFile): Promise<void> {
  await using server = await Nginx.start(onDisk.root, model)
  const what = `${mib} MiB, each connection limited to ${limitMibPerSecond} MiB/s`
  await compare(what, limitedParties(server, model), model, inMemory)
}

async function bad(): Promise<void> {
  await badConnection(card, makeModel(mib / 4), inMemory)
}

async function many(): Promise<void> {
  await manyProcesses(card, makeModel(mib / 4), onDisk)
}

async function stalls(model: NginxFile): Promise<void> {
  await using server = await Nginx.start(onDisk.root, model)
  await stallsAndMemory(card, server, inMemory)
}

async function compare(what: string, parties: readonly Party[], file: NginxFile, track: Track): Promise<void> {
  card.compare(what, parties, await race(parties, file.bytes, track), file.bytes)
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
  const fileSystem = firstLine('stat', ['-f', '-c', '%T', onDisk.root])
  const tools = [
    firstLine('curl', ['--version']),
    firstLine('openssl', ['version']),
    firstLine('aria2c', ['--version']),
  ]
  const packages = ['undici', 'node-llama-cpp', 'ipull', '@huggingface/hub'].map(version)
  const load = os.loadavg()[0] ?? 0
  console.log(`${cpu} × ${os.cpus().length}, ${os.type()} ${os.release()}, Node ${process.versions.node}`)
  console.log(`disk: ${onDisk.root} (${fileSystem}); ${rounds === 1 ? 'one round' : `medians of ${rounds} rounds`}`)
  console.log(`${[Nginx.version(), ...tools.map((line) => line.split(' (')[0]), ...packages].join(', ')}\n`)
  if (load > 0.5)
    console.log(`The machine has other work (load ${load.toFixed(2)}), which costs several threads more than one.\n`)
  if (mib < 1024) console.log('The targets are for 1024 MiB: a smaller model tries this program out.\n')
}

function makeModel(size: number): NginxFile {
  return makeTinyGguf({ path: path.join(onDisk.root, `${size}.gguf`), bytes: size * MiB })
}

const chosen = options.only?.split(',') ?? Object.keys(parts)
const unknown = chosen.find((name) => parts[name] === undefined)
if (unknown !== undefined) throw new Error(`--only=${unknown}: there are ${Object.keys(parts).join(', ')}`)
const { bavail, bsize } = statfsSync(inMemory.root)
if (bavail * bsize < (mib + 64) * MiB) throw new Error(`/dev/shm has no room for a model of ${mib} MiB`)
printHead()
const model = makeModel(mib)
for (const name of chosen) {
  console.error(`${name} …`)
  await parts[name]?.(model)
}
card.print()
if (!card.isMet) console.log('\nNot every target was met.')
