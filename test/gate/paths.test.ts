// One file has one mutex, however its path is written; and paths that some systems find hard.
import assert from 'node:assert/strict'
import { mkdir, readdir, realpath } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { darwinFiles, win32Files } from '../support/download-internals.ts'
import { GateFolder } from '../support/gate-folder.ts'
import { otherNames } from '../support/gate-paths.ts'
import { GateProcess } from '../support/gate-process.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

/** Wine 8 makes and opens long paths but cannot tell the real one of an open file, which the name of the mutex comes from. */
async function whyNoLongPaths(): Promise<string | false> {
  await using folder = await GateFolder.create()
  const deep = join(folder.models, ...Array.from({ length: 6 }, () => 'a'.repeat(60)))
  await mkdir(deep, { recursive: true })
  const error = await realpath(deep).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error,
  )
  return error?.code === 'UNKNOWN' && 'GetFinalPathNameByHandle fails here for long paths, as it does in Wine 8'
}

test('a download waits for one of the same file, however both wrote the folder and the name', async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start()
  const { path: file, sha256 } = makeTinyGguf({ path: join(folder.path, 'source.gguf') })
  const url = server.serve('/a.gguf', file)
  const path = join(folder.models, 'a.gguf')
  // Wine on a file system that tells cases apart makes two folders of it where two processes make it at once in different letters.
  await mkdir(folder.models, { recursive: true })
  using held = await folder.mutex('Download', path).acquire()
  const names = otherNames(path)
  await using others = {
    children: await Promise.all(
      names.map((name) => GateProcess.start({ ...folder.options, modelsDirectory: dirname(name) })),
    ),
    [Symbol.asyncDispose]: async () => void (await Promise.all(others.children.map((child) => child.kill()))),
  }
  const calls = others.children.map((other, index) =>
    other.ensureModel({ url, fileName: basename(names[index] ?? '') }),
  )
  const waiting = calls.map((call) => call.seenProgress(({ phase }) => phase === 'waiting'))
  const unguarded = calls.map((call) => call.result.then(({ path }) => assert.fail(`${path} did not wait`)))
  await Promise.all(waiting.map((seen, index) => Promise.race([seen, unguarded[index]])))
  for (const result of unguarded) result.catch(() => {})
  assert.equal(server.requests('/a.gguf').length, 0)
  held.release()
  for (const call of calls) assert.equal((await call.result).sha256, sha256)
  assert.equal(server.bytesServed('/a.gguf'), 1024 * 1024)
  assert.equal((await readdir(folder.models)).filter((name) => /\.gguf$/i.test(name)).length, 1)
})

test('a folder far deeper than 260 characters is downloaded to and loaded from', {
  skip: await whyNoLongPaths(),
}, async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start()
  const { path: file, sha256 } = makeTinyGguf({ path: join(folder.path, 'source.gguf') })
  const deep = join(folder.models, ...Array.from({ length: 6 }, (_, level) => `${level}`.repeat(60)))
  await using child = await GateProcess.start({ ...folder.options, modelsDirectory: deep })
  const published = await child.ensureModel(server.serve('/a.gguf', file)).result
  assert.deepEqual([published.path, published.sha256], [join(deep, 'a.gguf'), sha256])
  assert.ok((await child.loadModel({ modelPath: published.path }).result).tokens > 0)
})

test("the folder of the models is made where it is missing, unless told in the user's home", async () => {
  await using folder = await GateFolder.create()
  await using server = await ModelServer.start()
  const { path: file } = makeTinyGguf({ path: join(folder.path, 'source.gguf') })
  const home = join(folder.path, 'home')
  await mkdir(home)
  const { modelsDirectory: _, ...options } = folder.options
  await using child = await GateProcess.start(options, { HOME: home, USERPROFILE: home })
  const published = await child.ensureModel(server.serve('/a.gguf', file)).result
  assert.equal(published.path, join(home, '.node-llama-cpp', 'models', 'a.gguf'))
})

test('where the system does not tell cases apart, neither do the mutexes', () => {
  const one = (key: (path: string) => string, ...paths: string[]) => new Set(paths.map(key)).size
  assert.equal(
    one(win32Files.pathKey, 'C:\\Models\\Straße-ς.gguf', 'c:\\MODELS\\STRASSE-Σ.GGUF', 'c:\\models\\straße-σ.gguf'),
    1,
  )
  assert.equal(one(win32Files.pathKey, 'C:\\a.gguf', 'C:\\b.gguf', 'D:\\a.gguf'), 3)
  assert.equal(one(darwinFiles.pathKey, '/Models/\u00e9.gguf', '/models/e\u0301.gguf'), 1)
  assert.equal(one(darwinFiles.pathKey, '/a.gguf', '/b.gguf'), 2)
})
