// `npm test [-- files or node --test options]`: sets up, builds, lints and runs all tests.
import { requireTool, run, setUp } from './setup.mjs'
import { testFiles } from './suites.mjs'

if (process.platform === 'linux') requireTool('flock', 'util-linux')
if (process.platform !== 'win32') requireTool('openssl', 'openssl', 'version')
setUp()
run(process.execPath, ['node_modules/@biomejs/biome/bin/biome', 'check', '.'])
const asked = process.argv.slice(2)
const all = testFiles().map((file) => `out/test/${file}`)
run(process.execPath, ['--test', '--test-concurrency=2', '--test-timeout=300000', ...(asked.length > 0 ? asked : all)])
