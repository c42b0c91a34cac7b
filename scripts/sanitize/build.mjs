// A copy of the built package whose addon has a sanitizer in it. In the checkout itself it would be in the way of all other runs.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { linkModules } from '../platforms/stage.mjs'
import { root, run, runNodeGyp } from '../setup.mjs'

/** An empty folder for a sanitizer's files. */
export function stageFor(kind) {
  const stage = path.join(root, '.cache/sanitize', kind)
  rmSync(stage, { recursive: true, force: true })
  mkdirSync(stage, { recursive: true })
  return stage
}

/** Builds the addon as `npm run build` does, and with `flags` besides. */
export function buildSanitized(stage, flags) {
  for (const what of ['package.json', 'README.md', 'binding.gyp', 'native', 'dist', 'out'])
    cpSync(path.join(root, what), path.join(stage, what), { recursive: true })
  linkModules(path.join(stage, 'node_modules'))
  const added = compilerFlags(flags).join(' ')
  const env = { ...process.env, CC: 'gcc', CXX: 'g++', CXXFLAGS: added, LDFLAGS: added }
  // Quiet: make writes a line for each file.
  runNodeGyp(['rebuild', '--silent', '--jobs=max'], { cwd: stage, env })
}

function compilerFlags(flags) {
  return ['-O1', '-g', '-fno-omit-frame-pointer', '-pthread', ...flags]
}

/** A program that has each fault on purpose. */
export function compileFaulty(stage, flags) {
  const program = path.join(stage, 'faulty')
  run('g++', [...compilerFlags(flags), '-std=c++17', 'scripts/sanitize/faulty.cc', '-o', program])
  return program
}

/** A folder for the front of PATH, in which other people's programs leave the sanitizer behind. */
export function compileOutside(stage) {
  const folder = path.join(stage, 'outside')
  mkdirSync(folder)
  const program = path.join(folder, 'outside')
  run('gcc', ['-O1', 'scripts/sanitize/outside.c', '-o', program])
  for (const name of ['flock', 'sh', 'bash', 'python3', 'mkfifo', 'openssl'])
    symlinkSync(program, path.join(folder, name))
  return folder
}

/** The sanitizer's run time, for LD_PRELOAD: it has to be there before Node's first allocation. */
export function libraryOf(name) {
  const { stdout } = spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' })
  const file = stdout.trim()
  if (path.isAbsolute(file)) return realpathSync(file)
  throw new Error(`gcc has no ${name}. On Debian or Ubuntu it comes with: apt-get install g++`)
}
