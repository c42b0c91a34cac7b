// A copy of the built package whose addon has a sanitizer in it. In the checkout itself it would be in the way of all other runs.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { linkModules } from '../platforms/stage.mjs'
import { readGyp } from '../prebuild/gyp.mjs'
import { root, run } from '../setup.mjs'

/** An empty folder for a sanitizer's files. */
export function stageFor(kind) {
  const stage = path.join(root, '.cache/sanitize', kind)
  rmSync(stage, { recursive: true, force: true })
  mkdirSync(path.join(stage, 'build/Release'), { recursive: true })
  return stage
}

export function buildSanitized(stage, flags) {
  for (const what of ['package.json', 'dist', 'out'])
    cpSync(path.join(root, what), path.join(stage, what), { recursive: true })
  linkModules(path.join(stage, 'node_modules'))
  const { sources, defines } = readGyp(path.join(root, 'binding.gyp'), 'linux')
  run('g++', [
    ...['-shared', '-fPIC', ...compilerFlags(flags), '-fvisibility=hidden', '-std=c++17', '-fno-exceptions'],
    '-fasynchronous-unwind-tables',
    ...[...defines, 'BUILDING_NODE_EXTENSION', 'NODE_GYP_MODULE_NAME=os_mutex'].map((define) => `-D${define}`),
    ...includeFolders().flatMap((folder) => ['-isystem', folder]),
    ...sources,
    ...['-o', path.join(stage, 'build/Release/os_mutex.node')],
  ])
}

/** Where Node-API's headers are: Node's, and those for C++. */
export function includeFolders() {
  const require = createRequire(path.join(root, 'package.json'))
  const prefix = process.env.npm_config_nodedir ?? path.dirname(path.dirname(realpathSync(process.execPath)))
  const node = path.join(prefix, 'include/node')
  if (!existsSync(path.join(node, 'node_api.h')))
    throw new Error(`Node's headers are not in ${node}. Set npm_config_nodedir to a folder that has them`)
  return [node, path.dirname(require.resolve('node-addon-api/napi.h'))]
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
  for (const name of ['flock', 'sh', 'python3', 'mkfifo', 'openssl']) symlinkSync(program, path.join(folder, name))
  return folder
}

/** The sanitizer's run time, for LD_PRELOAD: it has to be there before Node's first allocation. */
export function libraryOf(name) {
  const { stdout } = spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' })
  const file = stdout.trim()
  if (path.isAbsolute(file)) return realpathSync(file)
  throw new Error(`gcc has no ${name}. On Debian or Ubuntu it comes with: apt-get install g++`)
}
