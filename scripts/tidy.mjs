// `npm run lint:native [-- files]`: clang-tidy over the addon's sources for Linux, with the flags that node-gyp gives each of them.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import path from 'node:path'
import { requireTool, root, runNodeGyp } from './setup.mjs'

requireTool('clang-tidy', 'clang-tidy')

// It leaves the addon and the Makefile that are in build/ alone.
runNodeGyp(['configure', '--', '-f', 'compile_commands_json'])
const folder = path.join(root, 'build/Release')
const sources = JSON.parse(readFileSync(path.join(folder, 'compile_commands.json'), 'utf8'))
  .map(({ file }) => path.relative(root, file))
  .sort()

const asked = process.argv.slice(2)
const unknown = asked.filter((file) => !sources.includes(file))
if (unknown.length > 0) {
  console.error(`Not among the sources for Linux: ${unknown.join(', ')}`)
  process.exit(1)
}

const files = asked.length > 0 ? asked : sources
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
  const child = spawn('clang-tidy', ['--quiet', '-p', folder, file], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (said += chunk))
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, said })))
}
