// A /proc that hides other users' processes (hidepid, as hardened machines mount it): what can't be seen is not dead.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'
import type { OwnerInfo } from 'os-mutex'
import { openDownloadFolder, partialsIn, until } from '../support/download-folder.ts'
import { startDownload } from '../support/download-process.ts'
import { lockFileBytes } from '../support/lock-file-bytes.ts'
import { LockFolder } from '../support/lock-folder.ts'
import { Mounts, startedIn, withNamespaces } from '../support/namespaces.ts'
import { secondUser, withSecondUser } from '../support/second-user.ts'

const name = 'Global\\hidden'
const hidden = 'mount -t proc -o hidepid=2 proc /proc'
const options = { ...withSecondUser, ...withNamespaces }

const internal = (file: string) => new URL(file, import.meta.resolve('os-mutex')).href

test("another user's living process is not taken for dead", options, async () => {
  await using folder = new LockFolder().openToAll()
  await using mounts = await Mounts.made(hidden)
  const [living, other] = await Promise.all([folder.process(), folder.process(startedIn({ uid: secondUser }, mounts))])
  const identity = await living.run(
    async ({ load }, url) => ((await load(url)) as { currentProcess(): object }).currentProcess(),
    internal('./mutex/process-identity.js'),
  )
  const look = () =>
    other.run(
      async ({ load, fs }, url, identity) => {
        const { isRunning } = (await load(url)) as { isRunning(who: object): unknown }
        return {
          isHidden: !fs.existsSync(`/proc/${(identity as { pid: number }).pid}`),
          runs: String(isRunning(identity)),
        }
      },
      internal('./mutex/process-identity.js'),
      identity,
    )
  assert.deepEqual(await look(), { isHidden: true, runs: 'undefined' })
  await living.kill()
  assert.deepEqual(await look(), { isHidden: true, runs: 'false' })
})

test("another user's living download is no leftover, and a dead one's is", options, async (t) => {
  const { server, payload, models, destination } = await openDownloadFolder(t)
  mkdirSync(models)
  for (const path of [dirname(models), models]) chmodSync(path, 0o777)
  await using mounts = await Mounts.made(hidden)
  const file = payload(256 * 1024)
  const url = server.serve('/model.gguf', file.path)
  server.pause('/model.gguf', 100 * 1024)
  const owner = startDownload(url, destination)
  await until(() => (partialsIn(models)[0]?.bytes ?? 0) > 0)
  const { execPath = '', execArgv = [] } = startedIn({ uid: secondUser }, mounts)
  const program = `
    const { pruneFolder } = await import(${JSON.stringify(internal('./download/partial/prune.js'))})
    console.log((await pruneFolder(${JSON.stringify(models)}, 0)).length)`
  const prune = () => {
    const words = [...execArgv, '--input-type=module', '-e', program]
    const { stdout, stderr } = spawnSync(execPath, words, { encoding: 'utf8', cwd: '/' })
    return stdout.trim() || stderr
  }
  assert.equal(prune(), '0')
  assert.equal(partialsIn(models).length, 1)
  await owner.kill()
  assert.equal(prune(), '2')
  assert.deepEqual(readdirSync(models), [])
})

const ifLinux = process.platform === 'linux' ? {} : { skip: 'other systems ask the kernel without a descriptor' }

test('with no descriptor left to look with, a living process is not taken for dead', ifLinux, async () => {
  await using folder = new LockFolder()
  const few = { execPath: 'prlimit', execArgv: ['--nofile=64', process.execPath] }
  const [living, other] = await Promise.all([folder.process(), folder.process(few)])
  const look = (change: object) =>
    other.run(
      async ({ load, fs }, url, living, change) => {
        type Looks = { isRunning(who: object): unknown; currentProcess(): object }
        const { isRunning, currentProcess } = (await load(url)) as Looks
        const at = fs.readFileSync(`/proc/${living}/stat`, 'latin1').split(') ')[1]?.split(' ')[19]
        const identity = { ...currentProcess(), pid: living, processStart: Number(at), ...change }
        const seen = [String(isRunning(identity))]
        const files: number[] = []
        try {
          for (;;) files.push(fs.openSync('/dev/null', 'r'))
        } catch (error) {
          seen.push((error as NodeJS.ErrnoException).code ?? '', String(isRunning(identity)))
        }
        for (const file of files) fs.closeSync(file)
        return seen
      },
      internal('./mutex/process-identity.js'),
      living.pid,
      change,
    )
  assert.deepEqual(await look({}), ['true', 'EMFILE', 'undefined'])
  assert.deepEqual(await look({ processStart: 1 }), ['false', 'EMFILE', 'undefined'])
  // Of a process whose /proc was not mounted when it named itself.
  assert.deepEqual(await look({ processStart: 0 }), ['undefined', 'EMFILE', 'undefined'])
})

test(
  'a hidden owner is shown with its words as long as nothing contradicts them, and not confirmed',
  options,
  async () => {
    await using folder = new LockFolder().openToAll()
    await using mounts = await Mounts.made(hidden)
    const [owner, other] = await Promise.all([folder.process(), folder.process(startedIn({ uid: secondUser }, mounts))])
    await owner.acquire(name, { purpose: 'hidden work' }).lock
    const real = (await owner.query(name)).owner ?? assert.fail()
    const { confirmed, ...record } = real
    assert.equal(confirmed, true)
    assert.deepEqual((await other.query(name)).owner, { ...record, confirmed: false })
    const seenWith = async (forged: Partial<OwnerInfo>) => {
      writeFileSync(folder.fileOf(name), lockFileBytes('held', JSON.stringify({ ...record, ...forged })))
      return (await other.query(name)).owner
    }
    assert.deepEqual(await seenWith({ pid: 1 }), { pid: owner.pid, confirmed: true }, 'another pid of this namespace')
    assert.deepEqual(await seenWith({ bootId: 'another' }), { pid: owner.pid, confirmed: true })
  },
)
