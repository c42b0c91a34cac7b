// Who shares a models folder, and not the machine's locks, excludes each other all the same: by the folder's own lock.
import assert from 'node:assert/strict'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { LlamaModelGate, type LlamaModelGateOptions, type ModelProgress } from 'os-mutex/llama'
import { Container } from '../support/containers.ts'
import { GateFolder } from '../support/gate-folder.ts'
import { withFolderLinks } from '../support/gate-links.ts'
import { GateProcess, type RemoteCall } from '../support/gate-process.ts'
import { ModelServer } from '../support/model-server.ts'
import { startedIn, withNamespaces } from '../support/namespaces.ts'
import { withStarters } from '../support/runtimes.ts'
import { secondUser, withSecondUser } from '../support/second-user.ts'
import { makeTinyGguf, type TinyGguf } from '../support/tiny-gguf.ts'
import { warningsOf } from '../support/warnings.ts'

const inContainers = { ...withNamespaces, ...withStarters }
const asSecondUser = { ...withSecondUser, ...withStarters }

const MiB = 1024 * 1024
const onPosix = process.platform === 'win32' ? { skip: 'Windows has no modes' } : {}

type WaitingProgress = Extract<ModelProgress, { phase: 'waiting' }>

class Scene implements AsyncDisposable {
  readonly folder: GateFolder
  readonly server: ModelServer
  readonly model: TinyGguf
  readonly url: string
  #lockHomes = 0

  private constructor(folder: GateFolder, server: ModelServer) {
    this.folder = folder
    this.server = server
    this.model = makeTinyGguf({ path: join(folder.path, 'source.gguf'), bytes: 4 * MiB })
    this.url = server.serve('/m.gguf', this.model.path)
    chmodSync(folder.path, 0o755)
  }

  static async create(): Promise<Scene> {
    return new Scene(await GateFolder.create(), await ModelServer.start({ bytesPerSecond: 8 * MiB }))
  }

  get models(): string {
    return this.folder.models
  }

  get locks(): string {
    return join(this.models, '.locks')
  }

  /** A gate that shares nothing but the models folder with the others here. */
  apart(): LlamaModelGateOptions {
    const mutexDirectory = join(this.folder.path, `locks-${this.#lockHomes++}`)
    mkdirSync(mutexDirectory)
    chmodSync(mutexDirectory, 0o1777)
    return { ...this.folder.options, mutexDirectory }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close()
    await this.folder[Symbol.asyncDispose]()
  }
}

/** It waits and sees that much of the download; it does not download itself. */
async function seenWaiting(call: RemoteCall<unknown>, bytes: number): Promise<WaitingProgress | undefined> {
  const seen = await call.seen((message) => {
    if (message.is !== 'progress') return message.is === 'failed' || message.is === 'done'
    const { phase, done } = message.progress
    return phase === 'downloading' || (phase === 'waiting' && done >= bytes)
  })
  const { progress } = seen as { progress?: ModelProgress }
  assert.equal(progress?.phase, 'waiting')
  return progress?.phase === 'waiting' ? progress : undefined
}

test(
  'three containers with a /tmp of their own and one models folder download a model once',
  inContainers,
  async () => {
    await using scene = await Scene.create()
    const { server, models, url, model } = scene
    await using one = await Container.start({ shared: [models], hostname: 'one' })
    await using two = await Container.start({ shared: [models], hostname: 'two' })
    await using three = await Container.start({ shared: [models], hostname: 'three' })
    const start = (container: Container) => GateProcess.start({ modelsDirectory: models }, {}, container.node())
    await using owner = await start(one)
    await using second = await start(two)
    await using third = await start(three)
    server.pause('/m.gguf', model.bytes / 2)
    const first = owner.ensureModel(url)
    await first.seenProgress(({ phase }) => phase === 'downloading')
    const waiting = [second, third].map((child) => child.ensureModel(url))
    // They see how far it is.
    for (const call of waiting) await seenWaiting(call, model.bytes / 4)
    server.resume('/m.gguf')
    const files = await Promise.all([first, ...waiting].map((call) => call.result))
    assert.ok(files.every(({ sha256 }) => sha256 === model.sha256))
    assert.deepEqual(
      files.map(({ cached }) => cached),
      [false, true, true],
    )
    assert.equal(server.bytesServed('/m.gguf'), model.bytes)
  },
)

test('a container that is killed in mid-download leaves its part to the next one', inContainers, async () => {
  await using scene = await Scene.create()
  const { server, models, url, model } = scene
  await using one = await Container.start({ shared: [models], hostname: 'one' })
  await using two = await Container.start({ shared: [models], hostname: 'two' })
  await using owner = await GateProcess.start({ modelsDirectory: models }, {}, one.node())
  await using waiter = await GateProcess.start({ modelsDirectory: models }, {}, two.node())
  server.pause('/m.gguf', model.bytes / 2)
  const doomed = owner.ensureModel(url)
  await doomed.seenProgress(({ done }) => done >= model.bytes / 4)
  const waiting = waiter.ensureModel(url)
  await seenWaiting(waiting, 0)
  await owner.kill()
  server.resume('/m.gguf')
  const file = await waiting.result
  assert.equal(file.sha256, model.sha256)
  assert.ok(file.resumedBytes > 0)
  assert.deepEqual(readdirSync(models).sort(), ['.locks', '.m.gguf.os-mutex.json', 'm.gguf'])
})

test('who may not write the folder waits for the download of who may, and gets the file', asSecondUser, async () => {
  await using scene = await Scene.create()
  const { server, url, model } = scene
  await using owner = await GateProcess.start(scene.apart())
  await using reader = await GateProcess.start(scene.apart(), {}, startedIn({ uid: secondUser }))
  server.pause('/m.gguf', model.bytes / 2)
  const owning = owner.ensureModel(url)
  await owning.seenProgress(({ phase }) => phase === 'downloading')
  const reading = reader.ensureModel(url)
  const seen = await seenWaiting(reading, model.bytes / 4)
  assert.equal(seen?.owner?.pid, owner.pid)
  server.resume('/m.gguf')
  const [file, same] = await Promise.all([owning.result, reading.result])
  assert.deepEqual([same.sha256, same.cached, same.downloadedBytes], [file.sha256, true, 0])
  assert.equal(server.bytesServed('/m.gguf'), model.bytes)
})

test('who may not write the folder never downloads', asSecondUser, async () => {
  await using scene = await Scene.create()
  const { server, url, models } = scene
  const other = server.serve('/other.gguf', scene.model.path)
  await using reader = await GateProcess.start(scene.apart(), {}, startedIn({ uid: secondUser }))
  const error = { name: 'ModelDownloadError', code: 'ERR_MODEL_FILE_SYSTEM' }
  await assert.rejects(reader.ensureModel(url).result, error)
  assert.deepEqual(readdirSync(models), [])
  // Nor when there is a folder of locks without this model's.
  await new LlamaModelGate(scene.apart()).ensureModel(url)
  await assert.rejects(reader.ensureModel(other).result, error)
  assert.equal((await reader.ensureModel(url).result).cached, true)
  assert.deepEqual(readdirSync(scene.locks), ['m.gguf'])
})

for (const [mode, umask, fileMode] of [
  [0o2775, 0o022, 0o664],
  [0o2770, 0o077, 0o660],
  [0o755, 0o022, 0o644],
  [0o700, 0o022, 0o600],
  [0o1777, 0o022, 0o666],
] as const) {
  const words = `${mode.toString(8)} with umask ${umask.toString(8).padStart(3, '0')}`
  test(`in a folder of mode ${words} whoever may write the folder may lock there, and nobody else`, {
    ...onPosix,
    ...withStarters,
  }, async () => {
    await using scene = await Scene.create()
    const { models, locks, url } = scene
    const [uid, gid] = process.geteuid?.() === 0 ? [40001, 40000] : [process.geteuid?.() ?? 0, process.getegid?.() ?? 0]
    chownSync(models, uid, gid)
    chmodSync(models, mode)
    const before = process.umask(umask)
    try {
      await new LlamaModelGate(scene.apart()).ensureModel(url)
    } finally {
      process.umask(before)
    }
    const [folder, file] = [statSync(locks), statSync(join(locks, 'm.gguf'))]
    assert.deepEqual([folder.mode & 0o7777, file.mode & 0o7777].map(octal), [mode, fileMode].map(octal))
    // What root makes in somebody's folder is his.
    assert.deepEqual([folder.uid, folder.gid], [uid, gid])
  })
}

function octal(mode: number): string {
  return mode.toString(8)
}

test('a user may lock in his own folder after root has downloaded there first', asSecondUser, async () => {
  await using scene = await Scene.create()
  const { server, models, url, model } = scene
  chownSync(models, secondUser, secondUser)
  await new LlamaModelGate(scene.apart()).ensureModel(url)
  const other = server.serve('/other.gguf', model.path)
  await using user = await GateProcess.start(scene.apart(), {}, startedIn({ uid: secondUser }))
  assert.equal((await user.ensureModel(other).result).sha256, model.sha256)
  assert.deepEqual(readdirSync(scene.locks).sort(), ['m.gguf', 'other.gguf'])
})

test(
  'a link as the folder of the locks is refused with one warning, and the download goes on',
  withFolderLinks,
  async (t) => {
    await using scene = await Scene.create()
    const { server, locks, url, model } = scene
    const told = warningsOf(t, 'OS_MUTEX_FOLDER_LOCK')
    const elsewhere = join(scene.folder.path, 'elsewhere')
    mkdirSync(elsewhere)
    symlinkSync(elsewhere, locks, 'junction')
    const gate = new LlamaModelGate(scene.folder.options)
    for (const one of [url, server.serve('/other.gguf', model.path)]) {
      assert.equal((await gate.ensureModel(one)).sha256, model.sha256)
    }
    await new Promise(setImmediate)
    assert.equal(told.length, 1)
    assert.ok(told[0]?.startsWith(`${locks} can't be used: it is a link`), told[0])
    assert.deepEqual(readdirSync(elsewhere), [])
  },
)

test("a stranger's folder of locks is refused in a sticky folder, and taken in another", asSecondUser, async (t) => {
  await using scene = await Scene.create()
  const { models, locks, url, server, model } = scene
  const told = warningsOf(t, 'OS_MUTEX_FOLDER_LOCK')
  mkdirSync(locks)
  chownSync(locks, secondUser, secondUser)
  const gate = new LlamaModelGate(scene.folder.options)
  await gate.ensureModel(url)
  assert.deepEqual(readdirSync(locks), ['m.gguf'])
  chmodSync(models, 0o1777)
  await gate.ensureModel(server.serve('/other.gguf', model.path))
  await new Promise(setImmediate)
  assert.deepEqual(readdirSync(locks), ['m.gguf'])
  assert.equal(told.length, 1)
  assert.ok(told[0]?.includes(`it belongs to user ${secondUser}`), told[0])
})

test(
  'two users of a sticky folder, whom no lock reaches both, get one file and leave nothing',
  asSecondUser,
  async () => {
    await using scene = await Scene.create()
    const { server, url, model, models } = scene
    chmodSync(models, 0o1777)
    const userOf = (uid: number) => GateProcess.start(scene.apart(), {}, startedIn({ uid }))
    await using first = await userOf(secondUser)
    await using second = await userOf(secondUser - 1)
    server.pause('/m.gguf', model.bytes / 2)
    const calls = [first.ensureModel(url)]
    await calls[0]?.seenProgress(({ phase }) => phase === 'downloading')
    calls.push(second.ensureModel(url))
    await calls[1]?.seenProgress(({ phase }) => phase === 'downloading')
    server.resume('/m.gguf')
    const files = await Promise.all(calls.map(({ result }) => result))
    assert.deepEqual(
      files.map(({ sha256 }) => sha256),
      [model.sha256, model.sha256],
    )
    assert.deepEqual(readdirSync(models).sort(), ['.locks', '.m.gguf.os-mutex.json', 'm.gguf'])
  },
)

test('of a split model, too', asSecondUser, async () => {
  await using scene = await Scene.create()
  const { server, model, models } = scene
  chmodSync(models, 0o1777)
  const part = (index: number) => `/m-0000${index}-of-00002.gguf`
  const url = server.serve(part(1), model.path)
  server.serve(part(2), model.path)
  const userOf = (uid: number) => GateProcess.start(scene.apart(), {}, startedIn({ uid }))
  await using first = await userOf(secondUser)
  await using second = await userOf(secondUser - 1)
  server.pause(part(2), model.bytes / 2)
  const isInSecond = ({ phase, done }: ModelProgress) => phase === 'downloading' && done > model.bytes
  const calls = [first.ensureModel(url), second.ensureModel(url)]
  for (const call of calls) await call.seenProgress(isInSecond)
  server.resume(part(2))
  const files = await Promise.all(calls.map(({ result }) => result))
  assert.deepEqual(
    files.map(({ parts }) => parts?.map(({ sha256 }) => sha256)),
    [1, 2].map(() => [model.sha256, model.sha256]),
  )
  const names = readdirSync(models)
  assert.ok(
    names.every((name) => !name.includes('partial')),
    names.join(),
  )
  const file = await first.ensureModel(url).result
  assert.equal(file.cached, true)
})

test('another file system in place of the folder of the locks is refused', inContainers, async () => {
  await using scene = await Scene.create()
  const { models, locks, url, model } = scene
  mkdirSync(locks)
  const mount = (folder: string, at: string) => `mount --bind ${folder} ${at}; mount -t tmpfs tmpfs ${at}/.locks`
  await using container = await Container.start({ shared: [models], mount })
  await using child = await GateProcess.start({ modelsDirectory: models }, {}, container.node())
  assert.equal((await child.ensureModel(url).result).sha256, model.sha256)
  assert.equal(existsSync(container.pathOf(join(locks, 'm.gguf'))), false)
})
