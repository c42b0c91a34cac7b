// `npm run lint:native [-- files]`: clang-tidy over the addon's sources for Linux, with the flags of binding.gyp.
import { spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { readGyp } from './prebuild/gyp.mjs'
import { includeFolders } from './sanitize/build.mjs'
import { requireTool, root } from './setup.mjs'

requireTool('clang-tidy', 'clang-tidy')

const { sources, defines } = readGyp(path.join(root, 'binding.gyp'), 'linux')
const asked = process.argv.slice(2)
const unknown = asked.filter((file) => !sources.includes(file))
if (unknown.length > 0) {
  console.error(`Not among the sources for Linux: ${unknown.join(', ')}`)
  process.exit(1)
}
const flags = [
  ...['-std=c++17', '-fno-exceptions', '-pthread'],
  ...[...defines, 'BUILDING_NODE_EXTENSION', 'NODE_GYP_MODULE_NAME=os_mutex'].map((define) => `-D${define}`),
  ...includeFolders().flatMap((folder) => ['-isystem', folder]),
]

const files = asked.length > 0 ? asked : [...sources]
const waiting = [...files]
const failed = []
await Promise.all(Array.from({ length: availableParallelism() }, work))
console.log(`${files.length} files, ${failed.length} with warnings`)
process.exitCode = failed.length === 0 ? 0 : 1

async function work() {
  for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
    const { code, said } = await tidy(file)
    if (code === 0) continue
    failed.push(file)
    console.error(said)
  }
}

function tidy(file) {
  // What it says on stderr is how many warnings of other people's headers it has kept to itself.
  const child = spawn('clang-tidy', ['--quiet', file, '--', ...flags], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk))
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, said })))
}
