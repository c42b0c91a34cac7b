// `npm run test:pack [-- --runtime LABEL -- COMMAND…]`: packs the package, installs the tarball into an empty project, and has a
// runtime (this Node, if none is given) acquire a mutex there. Ends with 1 if anything is not as promised.
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { sizeLimit } from './contents.mjs'
import { packFolder, prepare } from './prepare.mjs'
import { runPrograms } from './programs.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** What the runtime is called in the output. */
    runtime: { type: 'string', default: `Node ${process.versions.node}` },
    package: { type: 'string', default: root },
    work: { type: 'string', default: packFolder },
    /** The package has a prebuild for this machine only. */
    'host-only': { type: 'boolean', default: false },
    /** A node_modules folder to take the dependencies from, where there is no registry. */
    'dependencies-from': { type: 'string' },
  },
})
const command = positionals.length > 0 ? positionals : [process.execPath]

const prepared = prepare({
  packageDirectory: path.resolve(values.package),
  workDirectory: path.resolve(values.work),
  modules: path.join(root, 'node_modules'),
  hostOnly: values['host-only'],
  ...(values['dependencies-from'] === undefined ? {} : { dependenciesFrom: path.resolve(values['dependencies-from']) }),
})
const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`
console.log(`packed    ${(prepared.bytes / 1e6).toFixed(2)} MB of at most ${sizeLimit / 1e6} MB`)
for (const wrong of prepared.wrongs) console.log(`WRONG     ${wrong}`)
if (prepared.project === undefined) process.exit(1)

const { empty, cold, warm } = prepared.installMs
console.log(
  `installed in ${seconds(warm)} (${seconds(cold)} with an empty npm cache; nothing at all: ${seconds(empty)})`,
)
const results = await runPrograms(prepared.project, command)
for (const { name, passed, output, ms } of results) {
  console.log(`${passed ? 'passed' : 'FAILED'}    ${values.runtime}: ${name} (${seconds(ms)})`)
  if (!passed) console.log(output.replace(/^/gm, '    '))
}
process.exitCode = prepared.wrongs.length === 0 && results.every(({ passed }) => passed) ? 0 : 1
