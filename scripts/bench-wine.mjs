// `npm run bench:wine`: what a mutex costs on Windows under Wine, beside bare Win32 in C under the same Wine.
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { provideAddons } from './platforms/addons.mjs'
import { call, requirePackages } from './platforms/debian.mjs'
import { launchers } from './platforms/launchers.mjs'
import { stage } from './platforms/stage.mjs'
import { targets } from './platforms/targets.mjs'
import { root, setUp } from './setup.mjs'

const target = targets.find(({ name }) => name === 'win32-x64-node20')
setUp()
provideAddons([target.addon])
requirePackages('gcc-mingw-w64-x86-64-posix')
const launcher = await launchers[target.launcher](target)
try {
  const folder = stage(target)
  const peer = path.join(folder, 'mutex_peer.exe')
  const source = path.join(root, 'bench/peer/mutex_peer_win32.c')
  call('x86_64-w64-mingw32-gcc-posix', ['-O2', '-s', '-static', source, '-o', peer])
  const [program, ...args] = [...launcher.command, 'out/bench/mutex-win32.js', `Z:${peer.replaceAll('/', '\\')}`]
  // Under Wine output goes into a file, or not at all.
  const output = path.join(folder, 'bench.txt')
  const fd = openSync(output, 'w')
  const { status } = spawnSync(program, args, { cwd: folder, env: launcher.env, stdio: ['ignore', fd, fd] })
  closeSync(fd)
  process.stdout.write(readFileSync(output))
  process.exitCode = status ?? 1
} finally {
  launcher.stop()
}
