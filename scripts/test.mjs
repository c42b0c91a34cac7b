// `npm test [-- files or node --test options]`: sets up, builds, lints and runs the tests of what is shipped.
// `npm run test:long`: the same with the storms in their short form, the table of faults, the tests of the demo, the storms and the
// scripts, and the longest of the others.
import { requireTool, run, setUp } from './setup.mjs'
import { testFilesByLength } from './suites.mjs'

if (process.platform === 'linux') requireTool('flock', 'util-linux')
if (process.platform !== 'win32') requireTool('openssl', 'openssl', 'version')
setUp()
run(process.execPath, ['node_modules/@biomejs/biome/bin/biome', 'check', '.'])
const isLong = process.argv[2] === '--long'
const asked = process.argv.slice(isLong ? 3 : 2)
const files = testFilesByLength()[isLong ? 'long' : 'short']
const chosen = asked.length > 0 ? asked : files.map((file) => `out/test/${file}`)
run(process.execPath, ['--test', '--test-concurrency=2', '--test-timeout=300000', ...chosen])
