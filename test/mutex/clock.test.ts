import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type TestOptions, test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { aheadMs, clockAhead, noClockAhead } from '../support/clock-ahead.ts'
import { untilQueued } from '../support/kernel-queue.ts'
import { LockFolder } from '../support/lock-folder.ts'
import type { Party } from '../support/party.ts'
import type { Scope } from '../support/party-main.ts'
import { withTerminate } from '../support/runtimes.ts'

const name = 'Global\\clock'
const entryPoint = import.meta.resolve('os-mutex')
const root = dirname(dirname(fileURLToPath(entryPoint)))
const prebuilds = join(root, 'prebuilds')

/** A wait that follows the time of day takes at least `aheadMs`. */
const limitMs = 300
const tooLongMs = aheadMs / 2

const impossible = noClockAhead()
/** Where the addon was built here, users get another one, built by another compiler with another C++ library. */
const shipped = impossible ?? (await whyNotPrebuilt())
const addons: { what: string; env: NodeJS.ProcessEnv; options: TestOptions }[] = [
  { what: 'the addon that tests load', env: {}, options: impossible === undefined ? {} : { skip: impossible } },
  {
    what: 'the prebuilt addon',
    env: { PREBUILDS_ONLY: '1' }, // node-gyp-build then passes over build/
    options: shipped === undefined ? {} : { skip: shipped },
  },
]

for (const { what, env, options } of addons) {
  test(`${what}: no timeout moves when the clock is set back`, options, async () => {
    await using folder = new LockFolder()
    const party = await partyAhead(folder, env)
    const held = folder.mutex(name).tryAcquire()
    for (const sync of [true, false]) {
      const { code, tookMs } = await party.run(timeOut, { name, timeoutMs: limitMs, sync })
      assert.equal(code, 'ERR_MUTEX_TIMEOUT')
      assert.ok(tookMs >= limitMs - 1 && tookMs < tooLongMs, `sync: ${sync}, took ${tookMs} ms`)
    }
    held?.release()
  })

  test(`${what}: a blocked worker ends at once when the clock was set back`, {
    ...options,
    ...withTerminate,
  }, async () => {
    await using folder = new LockFolder()
    const party = await partyAhead(folder, env)
    const held = folder.mutex(name).tryAcquire()
    await party.run(blockWorker, { name, entryPoint })
    await untilQueued(folder.fileOf(name), party.pid)
    const tookMs = await party.run(endWorker)
    assert.ok(tookMs < tooLongMs, `took ${tookMs} ms`)
    held?.release()
  })

  test(`${what}: a waiter is woken at once when the clock was set back`, options, async () => {
    await using folder = new LockFolder()
    const party = await partyAhead(folder, env)
    for (const sync of [true, false]) {
      const held = folder.mutex(name).tryAcquire()
      const acquire = party.acquire(name, { sync })
      await untilQueued(folder.fileOf(name), party.pid)
      const releasedAt = performance.now()
      held?.release()
      const lock = await acquire.lock
      const tookMs = performance.now() - releasedAt
      assert.ok(tookMs < tooLongMs, `sync: ${sync}, took ${tookMs} ms`)
      await lock.release()
    }
  })
}

/** Fails if its clock is not ahead after all, or if it has loaded another addon. */
async function partyAhead(folder: LockFolder, env: NodeJS.ProcessEnv): Promise<Party> {
  const party = await folder.process({ env: { ...clockAhead(folder.path), ...env } })
  const { now, addon } = await party.run(look)
  assert.ok(now - Date.now() > aheadMs - 1000, `its clock is ahead by ${now - Date.now()} ms`)
  if (env.PREBUILDS_ONLY !== undefined) assert.ok(addon.startsWith(prebuilds), `it has loaded ${addon}`)
  return party
}

async function whyNotPrebuilt(): Promise<string | undefined> {
  if (loadedAddon().startsWith(prebuilds)) return 'it is the addon that tests load'
  const sums = join(root, 'scripts/prebuild/sums.mjs')
  if (!existsSync(sums)) return 'only a checkout can say whether prebuilds/ is up to date'
  const { problemOfPrebuild } = (await import(pathToFileURL(sums).href)) as {
    problemOfPrebuild(root: string, file: string): string | undefined
  }
  const libc = existsSync('/etc/alpine-release') ? 'musl' : 'glibc' // as node-gyp-build decides
  return problemOfPrebuild(root, `linux-${process.arch}/os-mutex.${libc}.node`)
}

function loadedAddon(): string {
  return look({ fs: { readFileSync } } as unknown as Scope).addon
}

// These run in the party.

function look({ fs }: Scope): { now: number; addon: string } {
  const addon = /\/\S*os[-_]mutex\S*\.node$/m.exec(fs.readFileSync('/proc/self/maps', 'utf8'))?.[0]
  return { now: Date.now(), addon: addon ?? 'none' }
}

async function timeOut(
  scope: Scope,
  { name, timeoutMs, sync }: { name: string; timeoutMs: number; sync: boolean },
): Promise<{ code: unknown; tookMs: number }> {
  const mutex = scope.mutex(name)
  const startedAt = performance.now()
  try {
    const lock = sync ? mutex.acquireSync({ timeoutMs }) : await mutex.acquire({ timeoutMs })
    lock.release()
    return { code: 'acquired', tookMs: performance.now() - startedAt }
  } catch (error) {
    return { code: (error as { code?: unknown }).code, tookMs: performance.now() - startedAt }
  }
}

async function blockWorker(scope: Scope, { name, entryPoint }: { name: string; entryPoint: string }): Promise<void> {
  const { Worker } = (await scope.load('node:worker_threads')) as typeof import('node:worker_threads')
  const program = `
    const { workerData } = require('node:worker_threads')
    import(workerData.entryPoint).then(({ NamedMutex }) =>
      new NamedMutex(workerData.name, { directory: workerData.directory }).acquireSync())`
  const workerData = { name, entryPoint, directory: scope.directory }
  scope.kept.push(new Worker(program, { eval: true, workerData }))
}

async function endWorker(scope: Scope): Promise<number> {
  const worker = scope.kept.pop() as import('node:worker_threads').Worker
  const startedAt = performance.now()
  await worker.terminate()
  return performance.now() - startedAt
}
