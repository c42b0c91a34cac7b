// One addon for Linux by prebuildify, which runs node-gyp over binding.gyp, here with Zig as the compiler. The same bytes
// come out wherever and whenever it is built, so nothing of this machine's Node may get in: node-gyp takes flags from
// Node's headers. Here it gets node-api-headers, which have none.
import { spawnSync } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { entryPoints } from './targets.mjs'

/** Compiles into `scratch` and returns the file's path. */
export function prebuildify({ root, toolchain, cache, scratch, target }) {
  const project = copyProject(root, toolchain, path.join(scratch, 'package'))
  const headers = writeHeaders(toolchain, scratch)
  const [{ triple, cpu }] = target.slices
  const [folder, name, libc] = /^(.+)\/(.+)\.(glibc|musl)\.node$/.exec(target.file).slice(1)
  const script = path.join(root, 'node_modules/prebuildify/bin.js')
  const options = [
    '--napi',
    '--tag-libc',
    libc,
    '--platform=linux',
    `--arch=${cpu}`,
    `--name=${name}`,
    `--target=${node}`,
  ]
  const compiler = (language) => `${toolchain.zig} ${language} -target ${triple}`
  const { status, error, signal, stdout, stderr } = spawnSync(process.execPath, [script, ...options], {
    cwd: project,
    encoding: 'utf8',
    // Nothing of the user's that a compiler or npm listens to (CPATH, CXXFLAGS, npm_config_…).
    env: {
      // binding.gyp runs `node`.
      PATH: `${path.dirname(process.execPath)}${path.delimiter}${process.env.PATH}`,
      HOME: scratch,
      LC_ALL: 'C',
      CC: compiler('cc'),
      CXX: compiler('c++'),
      JOBS: String(availableParallelism()),
      npm_config_nodedir: headers,
      PREBUILD_NODE_GYP: path.join(root, 'node_modules/node-gyp/bin/node-gyp.js'),
      ZIG_LOCAL_CACHE_DIR: cache,
      ZIG_GLOBAL_CACHE_DIR: cache,
      ...withoutHostGcc(scratch),
    },
  })
  if (status === 0) return path.join(project, 'prebuilds', folder, path.basename(target.file))
  const reason = error?.message ?? signal ?? `exit code ${status}`
  throw new Error(`${triple} did not compile (${reason}):\n${stdout}${stderr}`)
}

/** Whose headers node-gyp believes to have. Nothing is taken from it but the number. */
const node = '20.19.0'

/** What node-gyp reads, in a folder in which it may build: the checkout's build/ is the developer's. */
function copyProject(root, toolchain, folder) {
  for (const name of ['package.json', 'binding.gyp', 'native'])
    cpSync(path.join(root, name), path.join(folder, name), { recursive: true })
  cpSync(toolchain.nodeAddonApi, path.join(folder, 'node_modules/node-addon-api'), { recursive: true })
  return folder
}

/** Node-API's headers as an installation of Node has them, with our flags where that has Node's. */
function writeHeaders({ headers }, scratch) {
  const prefix = path.join(scratch, 'headers')
  const folder = path.join(prefix, 'include/node')
  mkdirSync(folder, { recursive: true })
  for (const name of readdirSync(headers))
    cpSync(path.join(headers, name), path.join(folder, name), { recursive: true })
  const exports = path.join(scratch, 'exports.map')
  // The C++ library inside is nobody else's business, and would clash with another addon's.
  writeFileSync(exports, `{ global: ${entryPoints.join('; ')}; local: *; };\n`)
  const small = ['-Os', '-fPIC', '-ffunction-sections', '-fdata-sections']
  const settings = {
    default_configuration: 'Release',
    configurations: { Release: {} },
    // Zig is a clang: here it checks what a mutex guards, too (see native/sync.h). A path in the file would differ from
    // machine to machine.
    cflags: [...small, '-Wthread-safety', `-ffile-prefix-map=${scratch}=.`],
    // Zig builds the C++ library as the program that it links.
    ldflags: [...small, '-s', '-Wl,--gc-sections', `-Wl,--version-script=${exports}`],
  }
  writeFileSync(path.join(folder, 'common.gypi'), JSON.stringify({ target_defaults: settings }))
  writeFileSync(path.join(folder, 'config.gypi'), JSON.stringify({ variables: {} }))
  return prefix
}

/**
 * clang looks for a GCC of the target on this machine. Where there is one for arm64, it compiles atomic operations as
 * calls (-moutline-atomics). Zig's own libraries get no flags of ours, but each clang reads this variable. It makes clang
 * look in a folder that does not exist.
 */
function withoutHostGcc(scratch) {
  return { CCC_OVERRIDE_OPTIONS: `#+--gcc-toolchain=${path.join(scratch, 'none')}` }
}
