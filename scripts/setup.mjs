// Makes a checkout ready to build and run, on a machine that has only Node, npm, Python 3, make and a C++ compiler (on Windows:
// Visual Studio's). Uses nothing that would have to be installed first.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

// Ctrl-C reaches the program that runs as well. It cleans up and ends, and this script with it.
process.on('SIGINT', () => {})

/** Runs a program in the checkout and ends with its exit code if it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (result.error) fail(`${command} could not be started: ${result.error.message}`)
  if (result.signal) fail(`${command} ${args.join(' ')} was ended by ${result.signal}`)
  if (result.status !== 0) process.exit(result.status)
}

function fail(message) {
  console.error(`\n${message}`)
  process.exit(1)
}

/** Ends with a message that says what to install where a tool is missing. */
export function requireTool(command, debianPackage, toldBy = '--version') {
  if (spawnSync(command, [toldBy], { stdio: 'ignore' }).status === 0) return
  fail(`"${command}" is needed and was not found. On Debian or Ubuntu: apt-get install ${debianPackage}`)
}

/** A file in build/ remembers what a step last ran on; the step runs again when that changes. */
function whenChanged(stampName, files, step) {
  const hash = createHash('sha256').update(`${process.version} ${process.arch}`)
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(path.resolve(root, file)))
  const stamp = path.resolve(root, stampName)
  const digest = hash.digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === digest) return
  step()
  writeFileSync(stamp, digest)
}

function filesIn(directory) {
  return readdirSync(path.join(root, directory), { recursive: true })
    .map((name) => path.join(directory, name))
    .filter((file) => statSync(path.join(root, file)).isFile())
    .sort()
}

/** What starts npm: a program, its first arguments, and options of `spawnSync`. */
export function npmCommand() {
  const npm = process.env.npm_execpath
  // On Windows it is npm.cmd.
  return npm === undefined ? ['npm', [], { shell: process.platform === 'win32' }] : [process.execPath, [npm], {}]
}

/** Installs what a folder's package-lock.json says, and runs none of it. The folder need not be in the checkout. */
export function installPackages(folder = '.') {
  const [program, before, options] = npmCommand()
  const args = [...before, 'ci', '--ignore-scripts', '--no-audit', '--no-fund']
  const cwd = path.resolve(root, folder)
  whenChanged(path.join(folder, 'node_modules/.os-mutex-installed'), [path.join(folder, 'package-lock.json')], () =>
    run(program, args, { ...options, cwd }),
  )
}

/** For node-gyp. Node's headers lie beside most installations of it; only where they don't, node-gyp downloads them. */
export function headerOptions() {
  if (process.env.npm_config_nodedir !== undefined) return []
  const prefix = path.dirname(path.dirname(realpathSync(process.execPath)))
  return existsSync(path.join(prefix, 'include/node/node_api.h')) ? [`--nodedir=${prefix}`] : []
}

/** Runs node-gyp, in the checkout unless `options.cwd` says otherwise. */
export function runNodeGyp([command, ...args], options = {}) {
  const script = path.join(root, 'node_modules/node-gyp/bin/node-gyp.js')
  run(process.execPath, [script, command, '--loglevel=warn', ...headerOptions(), ...args], options)
}

function buildAddon() {
  // On Windows node-gyp itself looks for Python and Visual Studio, and says what is missing.
  if (process.platform !== 'win32') {
    requireTool('python3', 'python3')
    requireTool('make', 'make')
    requireTool(process.env.CXX ?? 'g++', 'g++')
  }
  // node-addon-api's version is in the lock file.
  const sources = ['binding.gyp', 'package-lock.json', ...filesIn('native')]
  whenChanged('build/.os-mutex-built', sources, () => runNodeGyp(['rebuild']))
}

function compileTypeScript() {
  const tsc = path.join(root, 'node_modules/typescript/bin/tsc')
  run(process.execPath, [tsc, '-p', 'tsconfig.json'])
  run(process.execPath, [tsc, '-p', 'tsconfig.dev.json'])
}

/** Everything from a bare checkout to compiled code. What is up to date is left alone. */
export function setUp() {
  installPackages()
  buildAddon()
  compileTypeScript()
}
