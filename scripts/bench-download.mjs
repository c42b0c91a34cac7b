// `npm run bench:download`: what a download costs, beside other downloaders. Linux, with Debian's packages.
import { requirePackages } from './platforms/debian.mjs'
import { run, setUp } from './setup.mjs'

requirePackages('nginx-light', 'curl', 'openssl', 'aria2', 'iproute2')
setUp()
run(process.execPath, ['out/bench/download.js', ...process.argv.slice(2)])
