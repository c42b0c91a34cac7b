// Rows of the table of faults: processes that are killed, stopped or not alone, and clocks that jump. See support/faults.ts.
import assert from 'node:assert/strict'
import { randomInt } from 'node:crypto'
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { DownloadPhase } from '#download/progress'
import { half } from '../../support/fault-parts.ts'
import { type FaultJob, FaultProcess } from '../../support/fault-process.ts'
import { type Ending, type FaultScene, fault, isLong, path } from '../../support/faults.ts'
import { GateProcess } from '../../support/gate-process.ts'
import { until } from '../../support/until.ts'

const KiB = 1024
const MiB = 1024 * KiB
const right = { ends: 'right file' } as const
const killed = { ...right, guards: 'A1' } as const

function job(scene: FaultScene, more: Partial<FaultJob> = {}): FaultJob {
  const { connections, retryDelaysMs, headersTimeoutMs = 0, bodyTimeoutMs = 0 } = scene.options
  return {
    source: scene.url,
    destination: scene.destination,
    connections,
    retryDelaysMs,
    headersTimeoutMs,
    bodyTimeoutMs,
    ...more,
  }
}

async function startProcess(scene: FaultScene): Promise<FaultProcess> {
  const child = await FaultProcess.start()
  scene.t.after(() => child.kill())
  return child
}

// SIGKILL at each phase

for (const killAt of ['resolving', 'downloading', 'verifying', 'publishing'] as const satisfies DownloadPhase[]) {
  fault(`SIGKILL as soon as it is ${killAt}`, killed, async (scene) => {
    const child = await startProcess(scene)
    assert.equal(await child.run(job(scene, { killAt })), undefined, 'it was to be killed')
    scene.assertNothingWrong()
    return scene.get()
  })
}

for (const isReplaced of [false, true]) {
  const meanwhile = isReplaced ? ', and the file is replaced before the next call' : ''
  fault(`SIGKILL in the middle${meanwhile}`, killed, async (scene) => {
    const { server } = scene
    const child = await startProcess(scene)
    server.pause(path, half(scene))
    void child.run(job(scene))
    await scene.received(half(scene))
    await child.kill()
    await server.idle(path)
    server.resume(path)
    if (isReplaced) scene.serve(scene.payload())
    const end = await scene.get()
    assert.equal('model' in end && end.model.sha256, scene.file.sha256)
    return end
  })
}

// SIGKILL at random moments

/** Random numbers that come again with the same seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const seed = Number(process.env.OS_MUTEX_FAULT_SEED ?? randomInt(1_000_000))
const kills = Number(process.env.OS_MUTEX_FAULT_KILLS ?? (isLong ? 50 : 5))

/**
 * Kills download after download, each of which takes up what the one before it left, until so many were killed. Now and then one is
 * through before it is killed: its model is deleted, and all begins again.
 */
async function killChain(scene: FaultScene, isReplaced: boolean): Promise<Ending> {
  const random = seeded(seed + Number(isReplaced))
  const { server, file } = scene
  const versions = isReplaced ? [file, scene.payload()] : [file]
  let killed = 0
  let next = FaultProcess.start()
  while (killed < kills) {
    const child = await next
    next = FaultProcess.start()
    const served = server.bytesServed(path)
    const download = child.run(job(scene))
    const moment = random() < 0.8 ? server.reached(path, served + random() * file.bytes * 0.4) : sleep(random() * 60)
    const end = await Promise.race([download, moment.then(() => undefined)])
    await child.kill()
    await server.idle(path)
    scene.assertNothingWrong()
    if (end) assert.equal(scene.judge(end), 'right file')
    else killed++
    if (end || existsSync(scene.destination)) rmSync(scene.destination, { force: true })
    const version = versions[Math.floor(random() * versions.length)]
    if (version && random() < 0.3) scene.serve(version)
  }
  await (await next).kill()
  return scene.get()
}
// Slow enough that it takes several processes to the end of a file.
const chain = { ...killed, bytes: 4 * MiB, servedInMs: 333 } as const
fault(`SIGKILL at ${kills} random moments, seed ${seed}`, chain, (scene) => killChain(scene, false))
fault(`SIGKILL at ${kills} random moments, and the file is replaced now and then, seed ${seed}`, chain, (scene) =>
  killChain(scene, true),
)

// Processes that stand still

const noSignals = { skip: process.platform === 'win32' && 'Windows has no SIGSTOP' } as const
const stopped = { ...right, guards: 'E15', stallMs: 300, retryDelaysMs: [1, 2, 4], ...noSignals } as const
for (const isPaused of [false, true]) {
  const meanwhile = isPaused ? 'the server waits' : 'the server goes on'
  fault(`SIGSTOP for longer than the server may be silent, while ${meanwhile}`, stopped, async (scene) => {
    const child = await startProcess(scene)
    const { server } = scene
    server.pause(path, half(scene))
    const download = child.run(job(scene))
    await scene.received(half(scene))
    child.stop()
    if (!isPaused) server.resume(path)
    // Not to wait for anything: this is the fault.
    await sleep(1_500)
    child.goOn()
    if (isPaused) server.resume(path)
    return ended(await download)
  })
}

function ended(end: Ending | undefined): Ending {
  return end ?? assert.fail('the process has ended before its download')
}

// Clocks

const day = 24 * 3_600_000
for (const [by, clockJumpMs] of [
  ['a day on', day],
  ['a day back', -day],
  ['ten years on', 3_652 * day],
  ['ten years back', -3_652 * day],
] as const) {
  fault(`the clock jumps ${by} under way`, right, async (scene) => {
    const child = await startProcess(scene)
    return jumped(scene, child, clockJumpMs)
  })
}
fault('the clock jumps ten years back, and Retry-After is a date', right, async (scene) => {
  const child = await startProcess(scene)
  const retryAfter = new Date(Date.now() + 1_000).toUTCString()
  return jumped(scene, child, -3_652 * day, () => {
    scene.server.fault(path, { kind: 'status', status: 503, headers: { 'retry-after': retryAfter }, times: 1 })
  })
})

/** The clock jumps when half is there. Then the connection breaks. */
async function jumped(scene: FaultScene, child: FaultProcess, clockJumpMs: number, then = () => {}): Promise<Ending> {
  const { server } = scene
  server.fault(path, { kind: 'cut', atByte: half(scene) + 1, times: 1 })
  server.pause(path, half(scene))
  const download = child.run(job(scene))
  await scene.received(half(scene))
  await child.moveClock(clockJumpMs)
  then()
  server.resume(path)
  return ended(await download)
}

// Several processes

async function gates(scene: FaultScene, options: Record<string, unknown>[]): Promise<GateProcess[]> {
  const started = options.map((more, index) => {
    const mutexDirectory = join(dirname(scene.models), String(more.locks ?? index))
    mkdirSync(mutexDirectory, { recursive: true })
    const { locks, ...rest } = more
    return GateProcess.start({ modelsDirectory: scene.models, mutexDirectory, prefix: 'faults', ...rest })
  })
  const children = await Promise.all(started)
  scene.t.after(async () => {
    for (const child of children) await child.kill()
  })
  return children
}

async function remote(result: Promise<{ path: string; bytes: number; sha256?: string }>): Promise<Ending> {
  return result.then(
    (model) => ({ model }),
    (error: unknown) => ({ error }),
  )
}

/** Two processes ask at once, and one waits for the other: both have what one has downloaded. */
async function bothGet(scene: FaultScene, children: readonly GateProcess[]): Promise<Ending> {
  const { server, url } = scene
  const { connections = 1 } = scene.options
  server.pause(path, half(scene))
  const calls = children.map((child) => child.ensureModel(url, { connections }))
  await server.reached(path, half(scene))
  // Whoever waits, waits for the other.
  await Promise.race(calls.map((call) => call.seenProgress(({ phase }) => phase === 'waiting')))
  server.resume(path)
  const [one, two] = await Promise.all(calls.map(({ result }) => remote(result)))
  assert.ok(one && two)
  assert.equal(scene.judge(one), 'right file')
  return two
}

fault('two processes at once', { ...right, guards: 'C8', requests: 1 }, async (scene) => {
  const file = await bothGet(scene, await gates(scene, [{ locks: 'same' }, { locks: 'same' }]))
  // What is on its way when a stretch is shortened comes twice.
  // Over several connections the first answer is cut short, and what the kernels hold of it is lost: 6 MiB and 4 MiB by Linux's defaults.
  const lost = scene.isSegmented ? 16 * MiB : 0
  assert.ok(scene.server.bytesServed(path) <= scene.file.bytes + lost)
  return file
})
fault('two processes that share the folder alone', { ...right, guards: 'C8', only: 'one piece' }, async (scene) => {
  const file = await bothGet(scene, await gates(scene, [{}, {}]))
  assert.equal(scene.server.bytesServed(path), scene.file.bytes)
  return file
})
/** Nor one in the folder: something else has the name of its locks. */
function withoutFolderLocks({ models }: FaultScene): void {
  mkdirSync(models, { recursive: true })
  writeFileSync(join(models, '.locks'), '')
}

fault('two processes at once, without a lock between them', { ...right, guards: 'C8' }, async (scene) => {
  withoutFolderLocks(scene)
  const { server, url } = scene
  const { connections = 1 } = scene.options
  server.pause(path, half(scene))
  const calls = (await gates(scene, [{}, {}])).map((child) => child.ensureModel(url, { connections }))
  await until('both are in the middle of it', () => scene.partials.length === 2)
  server.resume(path)
  const [one, two] = await Promise.all(calls.map(({ result }) => remote(result)))
  assert.ok(one && two)
  assert.equal(scene.judge(one), 'right file')
  return two
})
fault(
  'two processes at once, without a lock, and two versions of the file',
  { ...right, guards: 'C8' },
  async (scene) => {
    withoutFolderLocks(scene)
    const { server, url } = scene
    const { connections = 1 } = scene.options
    server.pause(path, half(scene))
    const [first, second] = await gates(scene, [{}, {}])
    assert.ok(first && second)
    const [file, other] = [scene.file, scene.payload()]
    const old = first.ensureModel(url, { connections })
    await until('the first is in the middle of it', () => scene.partials.length === 1)
    scene.serve(other)
    const now = second.ensureModel(url, { connections })
    await until('the second is, too', () => scene.partials.length === 2)
    server.resume(path)
    // Over several connections the first may find out that there is another version by now.
    const may = scene.isSegmented ? [file.sha256, other.sha256] : [file.sha256]
    assert.ok(may.includes((await old.result).sha256 ?? ''))
    assert.equal((await now.result).sha256, other.sha256)
    scene.assertNothingWrong()
    return scene.get()
  },
)
fault('the process that downloads is killed while another waits', { ...right, guards: ['A1', 'C8'] }, async (scene) => {
  const { server, url } = scene
  const { connections = 1 } = scene.options
  server.pause(path, half(scene))
  const [owner, waiter] = await gates(scene, [{ locks: 'same' }, { locks: 'same' }])
  assert.ok(owner && waiter)
  owner.ensureModel(url, { connections })
  await server.reached(path, half(scene))
  const call = waiter.ensureModel(url, { connections })
  await call.seenProgress(({ phase }) => phase === 'waiting')
  await owner.kill()
  server.resume(path)
  return remote(call.result)
})
fault(
  'the process that downloads is stopped while another waits',
  { guards: 'E16', ends: 'ERR_MUTEX_TIMEOUT', ...noSignals },
  async (scene) => {
    const { server, url } = scene
    const { connections = 1 } = scene.options
    server.pause(path, half(scene))
    const [owner, waiter] = await gates(scene, [{ locks: 'same' }, { locks: 'same', downloadTimeoutMs: 500 }])
    assert.ok(owner && waiter)
    const held = owner.ensureModel(url, { connections })
    await server.reached(path, half(scene))
    await owner.freeze()
    const end = await remote(waiter.ensureModel(url, { connections }).result)
    scene.mends.push(async () => {
      owner.thaw()
      server.resume(path)
      assert.equal(scene.judge(await remote(held.result)), 'right file')
    })
    return end
  },
)
