// `npm run bench:mutex`, `npm run bench:gate`: sets up, builds and runs one of the measurements in bench/.
import { run, setUp } from './setup.mjs'

const [name, ...args] = process.argv.slice(2)
setUp()
run(process.execPath, ['--expose-gc', `out/bench/${name}.js`, ...args])
