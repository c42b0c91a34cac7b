// In a context of node:vm, as Jest has one for each file of tests: its Error and its Symbol are not Node's.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, sep } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createContext, Script } from 'node:vm'
import { GateFolder } from '../support/gate-folder.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const inNode = {
  skip: process.versions.bun || 'Deno' in globalThis ? 'Jest, for which this stands, runs on Node' : false,
}
const dist = dirname(fileURLToPath(import.meta.resolve('os-mutex')))

/** Loads the package as Jest does: its own modules in the context, whatever else from outside. */
function loaderIn(context: object): (file: string) => unknown {
  const loaded = new Map<string, { exports: unknown }>()
  const load = (file: string): unknown => {
    const known = loaded.get(file)
    if (known) return known.exports
    const module = { exports: {} }
    loaded.set(file, module)
    const outside = createRequire(file)
    const require = Object.assign((name: string) => {
      const path = name.startsWith('.') ? outside.resolve(name) : name
      return path.startsWith(dist + sep) ? load(path) : outside(path)
    }, outside)
    const text = `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, 'utf8')}\n})`
    const run = new Script(text, { filename: file }).runInContext(createContext(context))
    run(module.exports, require, module, file, dirname(file))
    return module.exports
  }
  return load
}

/** Node's globals without those of the language, of which a context has its own. */
function globalsOfNode(): object {
  const own = new Set(new Script('Object.getOwnPropertyNames(globalThis)').runInContext(createContext({})) as string[])
  const names = Object.getOwnPropertyNames(globalThis).filter((name) => !own.has(name))
  const globals = Object.fromEntries(names.map((name) => [name, (globalThis as Record<string, unknown>)[name]]))
  return { ...globals, Uint8Array, ArrayBuffer }
}

test('a context of node:vm has mutexes and the gate, and catches errors of Node as such', inNode, async () => {
  await using folder = await GateFolder.create()
  const context = createContext(globalsOfNode())
  const load = loaderIn(context)
  const { NamedMutex } = load(join(dist, 'index.js')) as typeof import('os-mutex')
  const { LlamaModelGate, ModelDownloadError } = load(join(dist, 'llama.js')) as typeof import('os-mutex/llama')
  assert.ok(!(new Error('one of Node') instanceof (new Script('Error').runInContext(context) as typeof Error)))

  const mutex = new NamedMutex('x', { directory: folder.path })
  const other = new NamedMutex('x', { directory: folder.path })
  const lock = await mutex.acquire()
  assert.equal(other.tryAcquire(), null)
  const next = other.acquire({ detectDeadlock: false })
  lock.release()
  assert.equal((await next).abandoned, false)
  ;(await next).release()
  const symbols = new Script('Symbol').runInContext(context) as SymbolConstructor
  assert.equal(typeof (lock as unknown as Record<symbol, unknown>)[symbols.dispose], 'function')

  await using server = await ModelServer.start()
  const model = makeTinyGguf({ path: join(folder.path, 'source.gguf') })
  const gate = new LlamaModelGate(folder.options)
  assert.equal((await gate.ensureModel(server.serve('/m.gguf', model.path))).sha256, model.sha256)
  const options = { ...folder.options, modelsDirectory: model.path }
  const error = await new LlamaModelGate(options)
    .ensureModel(`${server.origin}/m.gguf`)
    .catch((error: unknown) => error)
  assert.ok(error instanceof ModelDownloadError)
  assert.equal(error.code, 'ERR_MODEL_FILE_SYSTEM')
})

test(
  'where nothing can import node-llama-cpp, the error names the flag, and the module itself can be given',
  inNode,
  async () => {
    await using folder = await GateFolder.create()
    const load = loaderIn(createContext(globalsOfNode()))
    const { LlamaBackendError, LlamaModelGate } = load(join(dist, 'llama.js')) as typeof import('os-mutex/llama')
    const gate = new LlamaModelGate(folder.options)
    const error = await gate.getLlama().catch((error: unknown) => error)
    assert.ok(error instanceof LlamaBackendError)
    assert.equal(error.code, 'ERR_LLAMA_IMPORT_FAILED')
    assert.match(error.message, /NODE_OPTIONS=--experimental-vm-modules.*"module".*"llama"/)
    const options = { gpu: false, build: 'never', skipDownload: true, progressLogs: false } as const
    const llama = await gate.getLlama({ ...options, module: () => import('node-llama-cpp') })
    const { path } = makeTinyGguf({ path: join(folder.models, 'm.gguf') })
    const model = await gate.load(llama, path)
    assert.ok(model.size > 0)
    await model.dispose()
    await llama.dispose()
  },
)
