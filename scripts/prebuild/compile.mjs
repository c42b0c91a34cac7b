// One addon for Windows or macOS, the same bytes wherever and whenever it is built. Not by prebuildify: node-gyp on Linux
// writes a Makefile for Linux, whatever it is asked for.
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { readGyp } from './gyp.mjs'

const linkFlags = {
  win: ['-Wl,--gc-sections'],
  // Node-API is in the program that loads the addon.
  mac: ['-Wl,-undefined,dynamic_lookup', '-Wl,-dead_strip'],
}

/** Compiles into `output`. `scratch` takes what the linker leaves beside it. */
export function compile({ root, toolchain, cache, scratch, os, triple, output }) {
  const gyp = readGyp(path.join(root, 'binding.gyp'), os)
  // node-gyp's Visual C++ has a hook of its own for what this file does.
  if (os === 'win') gyp.sources.push('native/win32/node_api.cc')
  const args = [
    ...['c++', '-target', triple, '-shared', '-Os', '-s', '-ffunction-sections', '-fdata-sections'],
    ...(os === 'win' ? [] : ['-fPIC']),
    // Zig is a clang for every target: here it checks the code for Windows and macOS, too (see native/sync.h).
    ...[...gyp.cflags, ...gyp.cflags_cc, '-Wthread-safety'],
    // A path in the file would differ from machine to machine.
    ...[root, cache, scratch].map((folder) => `-ffile-prefix-map=${folder}=.`),
    // node-gyp's own define, by which Node-API's headers import instead of export on Windows.
    ...['BUILDING_NODE_EXTENSION', ...gyp.defines].map((define) => `-D${define}`),
    ...gyp.include_dirs.flatMap((folder) => ['-I', path.join(root, folder)]),
    ...[toolchain.headers, toolchain.nodeAddonApi].flatMap((folder) => ['-isystem', folder]),
    ...gyp.sources.map((source) => path.join(root, source)),
    ...gyp.libraries.map((library) => library.replace(/\.lib$/, '')),
    ...linkFlags[os],
    // Without a folder: on macOS the file holds this as its own name.
    ...['-o', path.basename(output)],
  ]
  const result = spawnSync(toolchain.zig, args, {
    cwd: scratch,
    encoding: 'utf8',
    // Nothing of the user's that a compiler listens to (CPATH, SDKROOT, …).
    env: {
      PATH: process.env.PATH,
      HOME: scratch,
      LC_ALL: 'C',
      ZIG_LOCAL_CACHE_DIR: cache,
      ZIG_GLOBAL_CACHE_DIR: cache,
    },
  })
  if (result.status === 0) return
  const reason = result.error?.message ?? result.signal ?? `exit code ${result.status}`
  throw new Error(`${triple} did not compile (${reason}):\n${result.stderr}`)
}
