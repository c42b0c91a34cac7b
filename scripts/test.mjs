// `npm test [-- files or node --test options]`: sets up, builds, lints and runs all tests.
import { readdirSync } from 'node:fs'
import { requireTool, root, run, setUp } from './setup.mjs'

if (process.platform === 'linux') requireTool('flock', 'util-linux')
if (process.platform !== 'win32') requireTool('openssl', 'openssl', 'version')
setUp()
run(process.execPath, ['node_modules/@biomejs/biome/bin/biome', 'check', '.'])
const asked = process.argv.slice(2)
const all = readdirSync(`${root}out/test`)
  .filter((name) => name.endsWith('.test.js'))
  .map((name) => `out/test/${name}`)
run(process.execPath, ['--test', '--test-concurrency=2', '--test-timeout=300000', ...(asked.length > 0 ? asked : all)])
