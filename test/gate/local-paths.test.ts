// Paths as sources: which of them are one, what exists is taken, and what does not is told how to write it.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, mkdirSync, realpathSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { modelPathOf, resolveRequest, resolveSource, whyNotGguf } from '../support/download-internals.ts'
import { clearDownloadVariables, GateScene } from '../support/gate-scene.ts'
import { withHomeOfNow, withUncachedUser } from '../support/runtimes.ts'
import { withSecondUser } from '../support/second-user.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

clearDownloadVariables()

const workingFolder = process.cwd()
const { HOME, USERPROFILE } = process.env
after(() => {
  process.chdir(workingFolder)
  Object.assign(process.env, HOME === undefined ? {} : { HOME }, USERPROFILE === undefined ? {} : { USERPROFILE })
})

test('a relative path is taken where there is such a file, and else told apart from what it looks like', async () => {
  await using scene = await GateScene.create()
  mkdirSync(join(scene.folder.path, 'mine'))
  process.chdir(scene.folder.path)
  const model = makeTinyGguf({ path: join(scene.folder.path, 'mine', 'm.gguf') })
  const here = realpathSync(model.path)
  assert.equal(realpathSync((await scene.gate.ensureModel('mine/m.gguf')).path), here)
  assert.equal(realpathSync((await scene.gate.ensureModel('./mine/m.gguf')).path), here)
  await assert.rejects(scene.gate.ensureModel('mine/gone.gguf'), {
    code: 'ERR_MODEL_INVALID_SOURCE',
    message:
      /no such file in the working folder: write \.\/mine\/gone\.gguf for a file, hf:mine\/gone\.gguf for one on the hub$/,
  })
  // A folder is no file.
  await assert.rejects(scene.gate.ensureModel('mine'), { code: 'ERR_MODEL_INVALID_SOURCE' })
  await assert.rejects(scene.gate.ensureModel(''), { code: 'ERR_MODEL_INVALID_SOURCE' })
  process.chdir(workingFolder)
})

test('`~/` is the home folder', withHomeOfNow, async () => {
  await using scene = await GateScene.create()
  const home = join(scene.folder.path, 'home')
  mkdirSync(home)
  Object.assign(process.env, { HOME: home, USERPROFILE: home })
  const model = makeTinyGguf({ path: join(home, 'm.gguf') })
  assert.equal((await scene.gate.ensureModel('~/m.gguf')).path, model.path)
  await assert.rejects(scene.gate.ensureModel('~/gone.gguf'), {
    code: 'ERR_MODEL_NOT_FOUND',
    path: join(home, 'gone.gguf'),
  })
})

test('a bare name is one in the models folder, and who meant the working folder is told so', async () => {
  await using scene = await GateScene.create()
  process.chdir(scene.folder.path)
  makeTinyGguf({ path: join(scene.folder.path, 'm.gguf') })
  await assert.rejects(scene.gate.ensureModel('m.gguf'), {
    code: 'ERR_MODEL_NOT_FOUND',
    message: /There is a file of that name in the working folder: write \.\/m\.gguf$/,
  })
  makeTinyGguf({ path: join(scene.folder.models, 'm.gguf') })
  assert.equal((await scene.gate.ensureModel('m.gguf')).path, join(scene.folder.models, 'm.gguf'))
  process.chdir(workingFolder)
})

test('one function says which file a path means, for sources and for all else that takes a path', () => {
  const models = resolve('/models')
  assert.equal(modelPathOf('m.gguf', models), join(models, 'm.gguf'))
  assert.equal(modelPathOf('m.bin', models), join(models, 'm.bin'))
  assert.equal(modelPathOf('./m.gguf', models), resolve('m.gguf'))
  assert.equal(modelPathOf('sub/m.gguf', models), resolve('sub/m.gguf'))
  assert.equal(modelPathOf(resolve('/x/m.gguf'), models), resolve('/x/m.gguf'))
  assert.equal(modelPathOf(pathToFileURL(resolve('/x/a b.gguf')).href, models), resolve('/x/a b.gguf'))
  const error = { code: 'ERR_MODEL_INVALID_SOURCE', message: /write file:\/\/\/folder\/model\.gguf$/ }
  // On Windows that is a file of another machine.
  const foreign = process.platform === 'win32' ? 'file:///m.gguf?s3cret' : 'file://host.test/m.gguf?s3cret'
  assert.throws(() => modelPathOf(foreign, models), error)
})

test('of a split model in a path all parts are listed, whichever is named', () => {
  const paths = ['1', '2', '3'].map((part) => resolve(`/x/m-0000${part}-of-00003.gguf`))
  for (const path of paths) {
    const request = resolveRequest(path, '/models', {})
    assert.deepEqual(request, { kind: 'local', paths, sha256: undefined, bytes: undefined })
  }
})

test('a hash may be written as `sha256:…`, and an expectation that is none is refused for paths and tags, too', () => {
  const digits = 'AB'.repeat(32)
  const url = 'https://x.test/m.gguf'
  assert.equal(resolveSource({ url, sha256: `sha256:${digits}` }, {}).sha256, digits.toLowerCase())
  assert.equal(resolveSource({ url, sha256: digits }, {}).sha256, digits.toLowerCase())
  for (const other of [url, '/m.gguf', 'hf:ann/repo', 'hf:ann/repo/m.gguf']) {
    for (const wrong of [{ sha256: `md5:${digits}` }, { sha256: 'sha256:ab' }, { bytes: 0 }, { sha265: digits }]) {
      assert.throws(() => resolveRequest({ url: other, ...wrong }, '/models', {}), { code: 'ERR_MODEL_INVALID_SOURCE' })
    }
  }
})

test('a Git LFS pointer is called one', () => {
  const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n'
  assert.match(whyNotGguf(Buffer.from(pointer)) ?? '', /^it is a Git LFS pointer.* \/resolve\/ in place of \/raw\//)
  assert.match(whyNotGguf(Buffer.from('version 1')) ?? '', /begins with "vers"/)
})

test('without any home folder there is no token file, and only the default models folder is missing', {
  ...withSecondUser,
  ...withUncachedUser,
}, async () => {
  await using scene = await GateScene.create()
  const { server } = scene
  server.serve('/ann/tiny/resolve/main/m.gguf', scene.model().path)
  // Someone else makes the files here.
  for (const path of [scene.folder.path, scene.folder.models, join(scene.folder.path, 'locks')]) chmodSync(path, 0o777)
  const entry = pathToFileURL(resolve('dist/llama.js')).href
  const program = `
    const { LlamaModelGate } = await import(${JSON.stringify(entry)})
    const gate = new LlamaModelGate(${JSON.stringify(scene.folder.options)})
    console.log((await gate.ensureModel('hf:ann/tiny/m.gguf')).bytes)
    try { new LlamaModelGate() } catch (error) { console.log(error.code, error.message) }
    await gate.ensureModel('~/m.gguf').catch((error) => console.log(error.code, error.message))`
  const { stdout, stderr } = await runAs(54321, program, { PATH: process.env.PATH, HF_ENDPOINT: server.origin })
  const lines = stdout.trim().split('\n')
  assert.match(lines[0] ?? '', /^\d+$/, stderr)
  assert.match(lines[1] ?? '', /^ERR_MUTEX_INVALID_ARGUMENT .* give the option "modelsDirectory"$/)
  assert.match(lines[2] ?? '', /^ERR_MODEL_INVALID_SOURCE "~\/m\.gguf" leads to a home folder, and this user has none/)
})

/** A user without an entry in the system's list. The server of the test must go on meanwhile. */
async function runAs(
  uid: number,
  program: string,
  env: NodeJS.ProcessEnv,
): Promise<{ stdout: string; stderr: string }> {
  return promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], { uid, gid: uid, cwd: '/', env })
}
