import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import * as osMutex from 'os-mutex'
import * as llama from 'os-mutex/llama'
import { started } from '../support/start.ts'

const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, Record<'import' | 'require', { types: string; default: string }> | string>
  scripts: Record<string, string>
  dependencies: Record<string, string>
  gypfile: boolean
}
// By its own resolution, wherever node_modules is.
const requireHere = createRequire(join(root, 'package.json'))
const loader = dirname(requireHere.resolve('node-gyp-build/package.json'))
/** The addon that the tests run with: built here, or a prebuild. */
const addonFile = (requireHere('node-gyp-build') as { resolve(directory: string): string }).resolve(root)

const entries: Record<string, object> = { 'os-mutex': osMutex, 'os-mutex/llama': llama }

/** A project that has only this package installed, and of its dependencies only what `os-mutex` itself may need. */
class Installed implements Disposable {
  readonly path = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-package-')))
  readonly package = join(this.path, 'node_modules/os-mutex')

  constructor({ addon }: { addon: boolean }) {
    mkdirSync(this.package, { recursive: true })
    cpSync(join(root, 'package.json'), join(this.package, 'package.json'))
    // Deno finds only what a project says that it depends on.
    writeFileSync(join(this.path, 'package.json'), JSON.stringify({ dependencies: { 'os-mutex': '*' } }))
    cpSync(join(root, 'dist'), join(this.package, 'dist'), { recursive: true })
    cpSync(loader, join(this.path, 'node_modules/node-gyp-build'), { recursive: true, dereference: true })
    if (addon) cpSync(addonFile, join(this.package, relative(root, addonFile)))
  }

  run(...args: string[]): string {
    const env = { ...process.env, OS_MUTEX_DIR: this.path }
    return started(() => execFileSync(process.execPath, args, { cwd: this.path, encoding: 'utf8', env }))
  }

  /** Runs `code` as an ES module. From a file: not every runtime imports from a command line. */
  runModule(code: string): string {
    writeFileSync(join(this.path, 'main.mjs'), code)
    return this.run('main.mjs')
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

const use = `const lock = new NamedMutex('x').tryAcquire(); console.log(lock.released); lock.release()`

test("import 'os-mutex' works where neither undici nor node-llama-cpp is installed", () => {
  using project = new Installed({ addon: true })
  const names = ['undici/index.js', 'node-llama-cpp']
  const missing = `for (const name of ${JSON.stringify(names)}) await import(name).then(() => { throw new Error(name) }, () => {})`
  const output = project.runModule(`import { NamedMutex } from 'os-mutex'; ${missing}; ${use}`)
  assert.equal(output, 'false\n')
})

test("require('os-mutex') gives what import gives", () => {
  using project = new Installed({ addon: true })
  const isSame = `import('os-mutex').then((imported) => console.log(Object.keys(imported).every((name) => imported[name] === required[name])))`
  assert.equal(
    project.run('-e', `const required = require('os-mutex'); const { NamedMutex } = required; ${use}; ${isSame}`),
    'false\ntrue\n',
  )
  for (const entry of ['os-mutex', 'os-mutex/llama']) {
    assert.deepEqual(Object.keys(requireHere(entry) as object).sort(), Object.keys(entries[entry] as object).sort())
  }
})

test('without its addon the package says what it looked for, where, and how to build it', () => {
  using project = new Installed({ addon: false })
  const code = `import('os-mutex').catch((error) => console.log(JSON.stringify({ code: error.code, name: error.name, message: error.message, cause: String(error.cause) })))`
  const error = JSON.parse(project.runModule(code))
  assert.equal(error.code, 'ERR_MUTEX_ADDON_NOT_FOUND')
  assert.equal(error.name, 'MutexError')
  for (const said of [project.package, process.platform, process.arch, 'prebuilds', 'node-gyp']) {
    assert.ok(error.message.includes(said), error.message)
  }
  assert.match(error.cause, /No native build was found/)
})

test('the package exports just its interface', () => {
  assert.deepEqual(Object.keys(osMutex).sort(), [
    'MutexAccessError',
    'MutexArgumentError',
    'MutexDeadlockError',
    'MutexError',
    'MutexLostError',
    'MutexTimeoutError',
    'NamedMutex',
    'acquireAll',
  ])
})

test('every entry point has its code and its types, and nothing else can be imported', async () => {
  for (const target of Object.values(manifest.exports)) {
    const formats = typeof target === 'string' ? [] : Object.values(target)
    const files = formats.flatMap(({ types, default: code }) => [types, code])
    for (const file of typeof target === 'string' ? [target] : files) assert.ok(existsSync(join(root, file)), file)
  }
  const internal = 'os-mutex/dist/mutex/addon.js'
  // The second is what Bun and Deno say.
  await assert.rejects(import(internal), { code: /^(ERR_PACKAGE_PATH_NOT_EXPORTED|ERR_MODULE_NOT_FOUND)$/ })
})

test('installing the package runs nothing on the user’s machine', () => {
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare'])
    assert.equal(manifest.scripts[script], undefined)
  assert.equal(manifest.gypfile, false, 'or npm would run node-gyp, for there is a binding.gyp')
  assert.deepEqual(Object.keys(manifest.dependencies).sort(), ['node-gyp-build', 'undici'])
})
