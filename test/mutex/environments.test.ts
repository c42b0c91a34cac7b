// One process, many JavaScript environments: Electron's main process and its workers, a pool of worker threads. The addon is
// loaded in each of them, and they share mutexes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Worker } from 'node:worker_threads'
import { type Diary, enter, type Fate, fates, leave, type Orders } from '../support/environment-worker.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { resources } from '../support/resources.ts'
import { until } from '../support/until.ts'

/** So many worker threads come and go in a round: six of each fate. */
const workerCount = 6 * fates.length
/** At most, until one of them leaves little behind. */
const rounds = 4
/** So many of them are there at the same time. */
const laneCount = 4

const names = ['Global\\settings', 'Local\\index', 'Global\\cache'] as const
const busyName = 'Global\\busy'

function newDiary(workerCount: number): Diary {
  const shared = (length: number) => new Int32Array(new SharedArrayBuffer(4 * length))
  return {
    inside: shared(names.length),
    entries: shared(names.length),
    trueEntries: shared(names.length),
    deaths: shared(workerCount + 2),
    wrongs: shared(2),
  }
}

function fateOf(id: number): Fate {
  return fates[id % fates.length] as Fate
}

/** Starts a worker and sees it end by its fate. */
async function liveAndDie(orders: Orders): Promise<void> {
  const worker = new Worker(new URL('../support/environment-worker.js', import.meta.url), { workerData: orders })
  const errors: string[] = []
  worker.on('error', (error: Error) => errors.push(error.message))
  if (/is terminated/.test(orders.fate)) worker.once('message', () => void worker.terminate())
  await new Promise((resolve) => worker.once('exit', resolve))
  assert.deepEqual(errors, orders.fate === 'holds, and throws' ? ['meant to be thrown'] : [], orders.fate)
}

/** Collects garbage first, so that what nobody can reach is not counted. */
function collected<T>(measure: () => T): T {
  setFlagsFromString('--expose-gc')
  ;(runInNewContext('gc') as () => void)()
  return measure()
}

/** Handles, and the addon's own threads. Counted where /proc tells them. */
function held(): { handles: number; threads: number } {
  return process.platform === 'linux' ? collected(resources) : { handles: 0, threads: 0 }
}

/** How much larger the process is after it, in MiB. */
async function growthBy(work: () => Promise<void>): Promise<number> {
  const before = collected(process.memoryUsage.rss)
  await work()
  return (collected(process.memoryUsage.rss) - before) / 2 ** 20
}

/** A round of threads that know nothing of mutexes: under Wine each leaves 0.2 MiB behind. */
async function plainWorkers(): Promise<void> {
  let started = 0
  const lane = async () => {
    while (started++ < workerCount) await new Promise((resolve) => new Worker('', { eval: true }).once('exit', resolve))
  }
  await Promise.all(Array.from({ length: laneCount }, lane))
}

const onNode = {
  skip:
    process.versions.bun || 'Deno' in globalThis
      ? "Node's and Electron's environments, looked at by V8's collector"
      : false,
}

/** A round. All its mutexes are closed when it resolves. */
async function comeAndGo(): Promise<void> {
  await using folder = new LockFolder()
  const diary = newDiary(workerCount)
  const mutexes = names.map((name) => folder.mutex(name))
  const busy = folder.mutex(busyName).tryAcquire()

  const self = workerCount + 1
  const visitAll = async () => {
    for (const [at, mutex] of mutexes.entries()) {
      const lock = await mutex.acquire({ timeoutMs: 60_000, purpose: 'the main thread' })
      await enter(diary, at, self, lock)
      leave(diary, at, self)
      lock.release()
    }
  }

  let started = 0
  const lane = async () => {
    while (started < workerCount) {
      const id = ++started
      const orders = { directory: folder.path, names, busyName, id, fate: fateOf(id), diary }
      await Promise.all([liveAndDie(orders), visitAll()])
    }
  }
  await Promise.all(Array.from({ length: laneCount }, lane))
  await visitAll()

  const anyMoment = workerCount / fates.length
  assert.equal(diary.wrongs[0], 0, 'entered where another was inside, or whose death was not told')
  assert.equal(diary.wrongs[1], 0, 'was not alone inside')
  for (const [at, entries] of diary.entries.entries()) {
    // A lost entry makes it fewer. A worker that is terminated between the two counts makes it one more.
    const more = entries - (diary.trueEntries[at] ?? 0)
    assert.ok(more >= 0 && more <= anyMoment, `${names[at]}: ${more}`)
  }
  for (let id = 1; id <= workerCount; id++) {
    const fate = fateOf(id)
    const told = diary.deaths[id] ?? 0
    if (/any moment/.test(fate)) assert.ok(told <= 1, `worker ${id} ${fate}: told ${told} times`)
    else assert.equal(told, fate.startsWith('holds') ? 1 : 0, `worker ${id} ${fate}`)
  }
  assert.ok((diary.deaths[0] ?? 0) <= anyMoment, 'only those ended at any moment die before they come inside')
  busy?.release()
  assert.equal((await folder.nextOwner(busyName)).abandoned, false, 'those that only waited abandoned nothing')
}

test(
  `${workerCount} worker threads come and go over mutexes shared with the main thread: exclusive, every death told once, nothing left behind`,
  onNode,
  async () => {
    await comeAndGo()
    await until("the first round's threads have ended", () => held().threads === 0)
    const before = held()
    // What V8 and the allocator keep for the next thread comes once or twice, up to 35 MiB. What environments leave behind comes with each
    // round: each that stays is more than 2 MiB, so those of a single fate are 12.
    const tolerance = process.env.OS_MUTEX_TEST_ANY_MEMORY === undefined ? 8 : Number.POSITIVE_INFINITY
    const grownBy: number[] = []
    let plain = 0
    while (grownBy.every((mebibytes) => mebibytes >= plain + tolerance)) {
      assert.ok(grownBy.length < rounds, `rounds leave ${grownBy.join(', ')} MiB behind, plain workers ${plain}`)
      if (grownBy.length === 1) plain = await growthBy(plainWorkers)
      const growth = await growthBy(async () => {
        await comeAndGo()
        await until('threads and descriptors are back', () => {
          const now = held()
          return now.threads === 0 && now.handles <= before.handles
        })
      })
      grownBy.push(growth)
    }
  },
)
