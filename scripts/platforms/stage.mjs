// A copy of the built package for one target, with that target's addon alone. (In the checkout itself, build/Release would win over
// any prebuild.)
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { root } from '../setup.mjs'
import { cache } from './cache.mjs'
import { compileForeign } from './wine.mjs'

export function stage({ name, addon, foreign }) {
  const folder = path.join(cache('stages'), name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(path.join(folder, 'results'), { recursive: true })
  for (const what of ['package.json', 'package-lock.json', 'dist', 'out'])
    cpSync(path.join(root, what), path.join(folder, what), { recursive: true })
  const prebuild = path.join(root, 'prebuilds', addon)
  if (!existsSync(prebuild)) throw new Error(`${prebuild} is missing. Run: npm run prebuild:all`)
  cpSync(prebuild, path.join(folder, 'prebuilds', addon))
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'))
  for (const file of ['reporter.mjs', 'node-test.mjs', 'run-file.mjs'])
    cpSync(path.join(import.meta.dirname, file), path.join(folder, file))
  if (addon.startsWith('win32')) compileForeign(folder)
  if (foreign) replaceRunner(path.join(folder, 'out/test'))
  return folder
}

/** Other runtimes have a node:test of their own, which tells no reasons and can't end a test that hangs. */
function replaceRunner(folder) {
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.test.js'))) {
    const at = path.join(folder, file)
    writeFileSync(at, readFileSync(at, 'utf8').replace(`from 'node:test'`, `from '../../node-test.mjs'`))
  }
}
