// An app that is packed as electron-builder and Forge do it, and the way from its import of os-mutex to the addon's file.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, sep, toNamespacedPath } from 'node:path'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import asar from '@electron/asar'
import { LockFolder } from '../support/lock-folder.ts'

const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const resolveFromPackage = createRequire(join(root, 'package.json'))
const standIn = new URL('../support/asar-electron.js', import.meta.url)

const onlyInNode =
  process.versions.bun === undefined && process.versions.deno === undefined
    ? {}
    : { skip: 'Electron is Node: other runtimes show nothing of it' }

/** Main thread and a worker, as Electron's main process may have them. */
const main = `
  import { Worker } from 'node:worker_threads'
  import { NamedMutex } from 'os-mutex'
  const directory = process.argv[2]
  const lock = await new NamedMutex('in asar', { directory }).acquire({ timeoutMs: 60_000 })
  const worker = new Worker(new URL('./worker.js', import.meta.url), { argv: [directory] })
  const inWorker = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
  lock.release()
  console.log(JSON.stringify({ here: import.meta.url, opened: globalThis.asarStandInOpened, inWorker }))
`
const worker = `
  import { parentPort } from 'node:worker_threads'
  import { NamedMutex } from 'os-mutex'
  const isTaken = new NamedMutex('in asar', { directory: process.argv[2] }).tryAcquire() === null
  parentPort.postMessage({ isTaken, opened: globalThis.asarStandInOpened })
`

interface Told {
  readonly here: string
  readonly opened?: readonly string[]
  readonly inWorker: { readonly isTaken: boolean; readonly opened?: readonly string[] }
}

/** Packs an app that depends on os-mutex. Gives its app.asar. */
async function packApp(directory: string, unpack: { unpack?: string; unpackDir?: string }): Promise<string> {
  const app = join(directory, 'app')
  const modules = join(app, 'node_modules')
  const own = join(modules, 'os-mutex')
  mkdirSync(modules, { recursive: true })
  writeFileSync(join(app, 'package.json'), JSON.stringify({ name: 'app', type: 'module', main: 'main.js' }))
  writeFileSync(join(app, 'main.js'), main)
  writeFileSync(join(app, 'worker.js'), worker)
  cpSync(join(root, 'dist'), join(own, 'dist'), { recursive: true })
  cpSync(join(root, 'package.json'), join(own, 'package.json'))
  const loader = dirname(resolveFromPackage.resolve('node-gyp-build/package.json'))
  cpSync(loader, join(modules, 'node-gyp-build'), { recursive: true, dereference: true })
  const { resolve } = resolveFromPackage('node-gyp-build') as { resolve(directory: string): string }
  cpSync(resolve(root), join(own, `prebuilds/${process.platform}-${process.arch}/os-mutex.node`))
  const archive = join(directory, 'resources/app.asar')
  // What it resolves with may still be writing.
  await finished(await asar.createPackageWithOptions(app, archive, unpack))
  rmSync(app, { recursive: true })
  return archive
}

function run(args: readonly string[], env: NodeJS.ProcessEnv, directory: string): Told {
  const options = { encoding: 'utf8', env: { ...process.env, ...env } } as const
  const { status, stdout, stderr } = spawnSync(process.execPath, [...args, directory], options)
  assert.equal(status, 0, stderr)
  return JSON.parse(stdout) as Told
}

function filesIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
}

test(
  'with **/*.node unpacked, the path inside app.asar that the loader finds leads to app.asar.unpacked',
  onlyInNode,
  async () => {
    await using folder = new LockFolder()
    const archive = await packApp(folder.path, { unpack: '**/*.node' })
    assert.deepEqual(filesIn(`${archive}.unpacked`), ['os-mutex.node'])

    // As asar-electron.ts wants it.
    const files = asar.listPackage(archive, { isPack: false })
    renameSync(archive, `${archive}.archive`)
    mkdirSync(archive)
    for (const file of files.map((name) => name.slice(1))) {
      const entry = asar.statFile(`${archive}.archive`, file)
      if ('files' in entry) mkdirSync(join(archive, file), { recursive: true })
      else if (entry.unpacked !== true) writeFileSync(join(archive, file), asar.extractFile(`${archive}.archive`, file))
    }
    const told = run(
      ['--import', standIn.href, join(archive, 'main.js')],
      { ASAR_STAND_IN: archive, ELECTRON_RUN_AS_NODE: '1' },
      folder.path,
    )
    assert.equal(told.here, pathToFileURL(join(archive, 'main.js')).href)
    const addon = `prebuilds/${process.platform}-${process.arch}/os-mutex.node`.replaceAll('/', sep)
    const expected = [toNamespacedPath(join(`${archive}.unpacked`, 'node_modules', 'os-mutex', addon))]
    assert.deepEqual(told.opened, expected)
    assert.deepEqual(told.inWorker, { isTaken: true, opened: expected })
  },
)

test(
  'a plain Node, which knows no asar, runs from app.asar.unpacked when the whole packages are unpacked',
  onlyInNode,
  async () => {
    await using folder = new LockFolder()
    const archive = await packApp(folder.path, { unpack: '*.js', unpackDir: 'node_modules/{os-mutex,node-gyp-build}' })
    const unpacked = `${archive}.unpacked`
    writeFileSync(join(unpacked, 'package.json'), JSON.stringify({ type: 'module' }))
    const told = run([join(unpacked, 'main.js')], {}, folder.path)
    assert.equal(told.here, pathToFileURL(join(unpacked, 'main.js')).href)
    assert.equal(told.inWorker.isTaken, true)
  },
)
