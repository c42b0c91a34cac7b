// `npm run prebuild:host`: this machine's addon, by its own compiler and prebuildify, into prebuilds/, for tests. What is
// shipped is made by `npm run prebuild:all`, and prepack refuses anything else. (Not named `prebuild`: npm would run it
// before `build`.)
import { headerOptions, run } from './setup.mjs'

const [nodedir] = headerOptions().map((option) => option.replace('--nodedir=', ''))
const options = ['--napi', '--strip', `--target=${process.versions.node}`]
if (process.platform === 'linux') options.push('--tag-libc')
run(process.execPath, ['node_modules/prebuildify/bin.js', ...options], {
  env: { ...process.env, ...(nodedir !== undefined && { npm_config_nodedir: nodedir }) },
})
