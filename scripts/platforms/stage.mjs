// A copy of the built package for one target, with that target's addon alone. (In the checkout itself, build/Release would win over
// any prebuild.)
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { root } from '../setup.mjs'
import { cache } from './cache.mjs'
import { packageFolder } from './runtimes.mjs'
import { compileForeign } from './wine.mjs'

export function stage({ name, addon, foreign }) {
  const folder = path.join(cache('stages'), name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(path.join(folder, 'results'), { recursive: true })
  for (const what of ['package.json', 'package-lock.json', 'README.md', 'dist', 'out'])
    cpSync(path.join(root, what), path.join(folder, what), { recursive: true })
  const prebuild = path.join(root, 'prebuilds', addon)
  if (!existsSync(prebuild)) throw new Error(`${prebuild} is missing. Run: npm run prebuild:all`)
  cpSync(prebuild, path.join(folder, 'prebuilds', addon))
  linkModules(path.join(folder, 'node_modules'))
  if (addon.startsWith('win32')) addWindowsLlama(path.join(folder, 'node_modules'))
  for (const file of ['reporter.mjs', 'node-test.mjs', 'run-file.mjs'])
    cpSync(path.join(import.meta.dirname, file), path.join(folder, file))
  if (addon.startsWith('win32')) compileForeign(folder)
  if (foreign) replaceRunner(folder)
  return folder
}

/** A node_modules of links to the checkout's packages. */
export function linkModules(folder) {
  mkdirSync(folder)
  const modules = path.join(root, 'node_modules')
  for (const name of readdirSync(modules)) symlinkSync(path.join(modules, name), path.join(folder, name))
}

/**
 * The binary of llama.cpp for Windows, in place of Linux's. It is the newest one there is, of the version before node-llama-cpp's own.
 * Nothing that the gate uses differs, but node-llama-cpp takes only a binary that has its version.
 */
function addWindowsLlama(folder) {
  const at = path.join(folder, '@node-llama-cpp')
  rmSync(at)
  cpSync(packageFolder('@node-llama-cpp/win-x64@3.21.1'), path.join(at, 'win-x64'), { recursive: true })
  const manifest = path.join(at, 'win-x64/package.json')
  const { version } = JSON.parse(readFileSync(path.join(folder, 'node-llama-cpp/package.json'), 'utf8'))
  writeFileSync(manifest, JSON.stringify({ ...JSON.parse(readFileSync(manifest, 'utf8')), version }))
}

/** Other runtimes have a node:test of their own, which tells no reasons and can't end a test that hangs. */
function replaceRunner(folder) {
  const tests = path.join(folder, 'out/test')
  for (const file of readdirSync(tests, { recursive: true }).filter((name) => name.endsWith('.js'))) {
    const at = path.join(tests, file)
    const code = readFileSync(at, 'utf8')
    const runner = path.relative(path.dirname(at), path.join(folder, 'node-test.mjs'))
    if (code.includes(`from 'node:test'`)) writeFileSync(at, code.replace(`from 'node:test'`, `from '${runner}'`))
  }
}
