// `npm run bench`: the mutex beside its peers. Linux. The peers are no dependencies of the project: they are installed into bench/peers.
import path from 'node:path'
import { headerOptions, installPackages, requireTool, root, run, setUp } from './setup.mjs'

/** fs-ext has no prebuilt addon, and its install script was not run. */
function buildFsExt() {
  const gyp = path.join(root, 'node_modules/node-gyp/bin/node-gyp.js')
  run(process.execPath, [gyp, 'rebuild', '--loglevel=error', ...headerOptions()], {
    cwd: path.join(root, 'bench/peers/node_modules/fs-ext'),
    stdio: ['ignore', 'ignore', 'inherit'],
  })
}

requireTool('flock', 'util-linux')
requireTool('cc', 'gcc')
setUp()
installPackages('bench/peers')
buildFsExt()
run(process.execPath, ['out/bench/all.js', ...process.argv.slice(2)])
