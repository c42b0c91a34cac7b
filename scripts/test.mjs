// `npm test [-- files or node --test options]`: sets up, builds, lints and runs the tests of what is shipped.
// `npm run test:tools`: the same with the tests of the demo, the storms and the scripts.
import { requireTool, run, setUp } from './setup.mjs'
import { testFiles, testFilesIn, tools } from './suites.mjs'

if (process.platform === 'linux') requireTool('flock', 'util-linux')
if (process.platform !== 'win32') requireTool('openssl', 'openssl', 'version')
setUp()
run(process.execPath, ['node_modules/@biomejs/biome/bin/biome', 'check', '.'])
const ofTools = testFilesIn(tools)
const isOfTools = process.argv[2] === '--tools'
const asked = process.argv.slice(isOfTools ? 3 : 2)
const files = isOfTools ? ofTools : testFiles().filter((file) => !ofTools.includes(file))
const chosen = asked.length > 0 ? asked : files.map((file) => `out/test/${file}`)
run(process.execPath, ['--test', '--test-concurrency=2', '--test-timeout=300000', ...chosen])
