// What a download costs beside its speed: many processes at once, one bad connection, memory, and the event loop.
import path from 'node:path'
import { ModelServer } from '../../test/support/model-server.ts'
import type { DownloadCard } from './download-card.ts'
import { ourParty } from './download-parties.ts'
import { Nginx, type NginxFile } from './nginx.ts'
import { NodeDownloader, type NodeResult } from './node-downloader.ts'
import { alternated, inFreshFolder, race, type Track } from './race.ts'
import { digits, median } from './statistics.ts'

const MiB = 1024 * 1024
const PROCESSES = 16
const CONNECTIONS = 8
const GOOD = { bytesPerSecond: 20e6 }
const BAD = { bytesPerSecond: 100e3 }

/** Eight good connections, and seven with a bad one: the fifth that is made, each time. */
export async function badConnection(card: DownloadCard, file: NginxFile, track: Track): Promise<void> {
  const took = new Map<string, number[]>()
  for (let round = 0; round < track.rounds; round++) {
    for (const scene of alternated(['good', 'one bad'], round)) {
      const connection = (ordinal: number) => (scene === 'one bad' && ordinal === 5 ? BAD : GOOD)
      await using server = await ModelServer.start({ connection })
      const party = ourParty(server.serve('/model.gguf', file.path), file, CONNECTIONS)
      const [timing] = (await race([party], file.bytes, { ...track, rounds: 1 })).get(party.name) ?? []
      took.set(scene, [...(took.get(scene) ?? []), timing?.ms ?? Number.NaN])
    }
  }
  const [good = [], bad = []] = [took.get('good'), took.get('one bad')]
  const ratio = median(bad.map((ms, round) => ms / (good[round] ?? Number.NaN)))
  card.add({
    what: `${file.bytes / MiB} MiB over ${CONNECTIONS} connections of 20 MB/s, one of which has 0.1 MB/s`,
    ours: `${digits(median(bad) / 1000)} s`,
    beside: `all good: ${digits(median(good) / 1000)} s`,
    ratio,
    target: '≤ 1.3 × the time',
    isMet: ratio <= 1.3,
  })
}

/** So many processes ask their gates for one model at once: until the last has it, and how often its bytes were sent. */
async function gateProcesses(count: number, file: NginxFile, { root }: Track): Promise<{ ms: number; copies: number }> {
  return inFreshFolder(root, async (folder) => {
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

export async function manyProcesses(card: DownloadCard, file: NginxFile, track: Track): Promise<void> {
  const [alone, together, copies]: [number[], number[], number[]] = [[], [], []]
  for (let round = 0; round < track.rounds; round++) {
    for (const count of alternated([1, PROCESSES], round)) {
      const result = await gateProcesses(count, file, track)
      if (count === 1) alone.push(result.ms)
      else {
        together.push(result.ms)
        copies.push(result.copies)
      }
    }
  }
  const what = `${PROCESSES} processes want one model of ${file.bytes / MiB} MiB`
  const most = Math.max(...copies)
  card.add({
    what: `${what}: bytes sent`,
    ours: `${most.toFixed(3)} × its size at most`,
    target: '1.000 ×',
    isMet: most.toFixed(3) === '1.000',
  })
  const ratio = median(together.map((ms, round) => ms / (alone[round] ?? Number.NaN)))
  card.add({
    what: `${what}: until all have it`,
    ours: `${digits(median(together) / 1000)} s`,
    beside: `one process alone: ${digits(median(alone) / 1000)} s`,
    ratio,
    target: '≤ 1.15 × the time',
    isMet: ratio <= 1.15,
  })
}

interface Stalls {
  readonly owner: NodeResult
  readonly waiter: NodeResult
  readonly idle: NodeResult
}

/** One process downloads, one waits for it, and one does nothing meanwhile. */
async function stallsOnce(server: Nginx, { root }: Track): Promise<Stalls> {
  return inFreshFolder(root, async (folder) => {
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

/** Stalls beyond those that an idle process of the same moment has, and the memory of the one that downloads. */
export async function stallsAndMemory(card: DownloadCard, server: Nginx, track: Track): Promise<void> {
  const all: Stalls[] = []
  for (let round = 0; round < track.rounds; round++) all.push(await stallsOnce(server, track))
  const stalls = (who: keyof Stalls) => all.map((round) => round[who].longestStallMs)
  const shown = (ms: readonly number[]) => `${digits(median(ms))} ms (worst ${digits(Math.max(...ms))})`
  for (const who of ['owner', 'waiter'] as const) {
    const beyond = median(all.map((round) => round[who].longestStallMs - round.idle.longestStallMs))
    card.add({
      what: `longest stall of the event loop, ${who === 'owner' ? 'downloading' : 'waiting for it'}`,
      ours: shown(stalls(who)),
      beside: `an idle process meanwhile: ${shown(stalls('idle'))}`,
      target: '≤ 20 ms beyond the idle',
      isMet: beyond <= 20,
    })
  }
  const megabytes = (who: keyof Stalls) => median(all.map((round) => round[who].peakRssBytes / 1e6))
  card.add({
    what: 'peak memory, above that of the process before',
    ours: `${digits(megabytes('owner'))} MB`,
    beside: `waiting: ${digits(megabytes('waiter'))} MB; idle: ${digits(megabytes('idle'))} MB`,
    target: '≤ 100 MB over the idle',
    isMet: megabytes('owner') - megabytes('idle') <= 100,
  })
}
