// Windows programs under Wine.
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { root } from '../setup.mjs'
import { cache, cachedFolder } from './cache.mjs'
import { call, requirePackages } from './debian.mjs'

/** This machine's own Wine. */
export async function wine() {
  requirePackages('wine', 'wine64')
  return prepare('debian', [])
}

/** Another release's Wine, in a root folder that `enter` leads into. */
export function wineIn(name, enter) {
  return prepare(name, enter)
}

async function prepare(name, enter) {
  const prefix = await cachedFolder('wine', name, (begun) => {
    console.error('making a Wine prefix')
    const env = environment(begun)
    // Node asks for Windows 10. The updates end before the folder gets its name.
    for (const command of ['wineboot -i', 'wine winecfg -v win10', 'wineserver -w'])
      run([...enter, ...command.split(' ')], env)
  })
  const env = environment(prefix)
  // A server that ends with its last client and one that starts at that moment may miss each other, so it stays until `stop`.
  const stop = () => run([...enter, 'wineserver', '-k'], env, [0, 1]) // 1: none runs
  stop() // one that a killed run has left
  run([...enter, 'wineserver', '-w'], env)
  run([...enter, 'wineserver', '-p'], env)
  return { env, command: [...enter, 'wine'], stop }
}

/** What the Windows tests use as a foreign program, compiled into a stage. */
export function compileForeign(folder) {
  requirePackages('gcc-mingw-w64-x86-64-posix')
  const options = ['-std=c11', '-O2', '-s', '-Wall', '-Wextra', '-Werror', '-municode', '-static']
  const [source, program] = [
    path.join(root, 'test/support/win32/foreign.c'),
    path.join(folder, 'out/test/support/win32/foreign.exe'),
  ]
  call('x86_64-w64-mingw32-gcc-posix', [...options, source, '-o', program, '-ladvapi32'])
}

function environment(prefix) {
  const { DISPLAY: _, ...env } = process.env
  return {
    ...env,
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/wine',
    WINEPREFIX: prefix,
    WINEARCH: 'win64',
    WINEDEBUG: '-all',
    // No .NET, no browser engine, no menu entries on this machine.
    WINEDLLOVERRIDES: 'mscoree,mshtml=;winemenubuilder.exe=d',
  }
}

/** Wine's own programs refuse pipes, as all under Wine do. */
function run([program, ...args], env, good = [0]) {
  const log = path.join(cache('wine'), 'setup.log')
  const fd = openSync(log, 'w')
  const { status, error } = spawnSync(program, args, { env, cwd: cache(), stdio: ['ignore', fd, fd] })
  closeSync(fd)
  if (good.includes(status)) return
  throw new Error(`${program} ${args.join(' ')} failed (${status}): ${error?.message ?? readFileSync(log, 'utf8')}`)
}
