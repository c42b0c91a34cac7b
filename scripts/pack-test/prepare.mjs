// Packs the package and installs the tarball into an empty project, once for each content of the package.
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { wrongContents } from './contents.mjs'
import { npm } from './npm.mjs'
import { writePrograms } from './programs.mjs'
import { checkTypes } from './types.mjs'

/** Where it is all kept unless said otherwise. Not in the checkout, whose own node_modules the project would find. */
export const packFolder = path.join(tmpdir(), 'os-mutex-pack-test')

/** Whatever a build from source would start with. */
const buildTools = 'cc c++ gcc g++ clang clang++ cl make gmake cmake ninja msbuild python python3 node-gyp'.split(' ')

/**
 * @typedef {object} Prepared
 * @property {string} tarball
 * @property {number} bytes the tarball's size
 * @property {string[]} wrongs what is wrong with the package or its installation
 * @property {string} [project] the project's folder: os-mutex is installed in it, and the programs are there. Missing where the
 *   contents are wrong already
 * @property {{ empty: number, cold: number, warm: number }} [installMs] npm install of nothing, and of the tarball
 */

/**
 * @param {object} options
 * @param {string} options.packageDirectory what to pack
 * @param {string} options.workDirectory where tarballs and projects are kept
 * @param {string} options.modules a node_modules folder with typescript and @types/node
 * @param {boolean} [options.hostOnly] the package has a prebuild for this machine only
 * @param {string} [options.dependenciesFrom] a node_modules folder to take the dependencies from, instead of the registry
 * @returns {Prepared}
 */
export function prepare({ packageDirectory, workDirectory, modules, hostOnly = false, dependenciesFrom }) {
  mkdirSync(workDirectory, { recursive: true })
  const [packed] = JSON.parse(npm(['pack', '--json', '--pack-destination', workDirectory], packageDirectory))
  // Named by its content, so that a changed package is installed anew and an unchanged one is not.
  const directory = path.join(workDirectory, packed.shasum)
  const done = path.join(directory, 'prepared.json')
  const tarball = path.join(directory, packed.filename)
  mkdirSync(directory, { recursive: true })
  renameSync(path.join(workDirectory, packed.filename), tarball)
  if (existsSync(done)) return JSON.parse(readFileSync(done, 'utf8'))

  const wrongs = wrongContents(packed, { hostOnly })
  if (wrongs.length > 0) return { tarball, bytes: packed.size, wrongs }
  const installMs = { empty: 0, cold: 0, warm: 0 }
  const poison = poisonedTools(directory)
  const overrides =
    dependenciesFrom === undefined ? {} : packDependencies(packageDirectory, dependenciesFrom, directory)
  const install = (name, dependencies, flags) => {
    const project = path.join(directory, name)
    rmSync(project, { recursive: true, force: true })
    mkdirSync(project)
    writeFileSync(path.join(project, 'package.json'), JSON.stringify({ private: true, dependencies, overrides }))
    const startedAt = performance.now()
    npm(['install', '--no-audit', '--no-fund', '--no-update-notifier', ...flags], project, poison.env)
    return { project, ms: performance.now() - startedAt }
  }
  const ofTarball = { 'os-mutex': `file:${tarball}` }
  const ownCache = ['--cache', path.join(directory, 'npm-cache')]
  installMs.empty = install('empty', {}, ownCache).ms
  // As a user whose package manager lets install scripts run, and as one whose does not.
  installMs.cold = install('scripts-allowed', ofTarball, ownCache).ms
  const { project, ms } = install('project', ofTarball, [...ownCache, '--ignore-scripts'])
  installMs.warm = ms
  for (const tool of poison.called()) wrongs.push(`the installation called ${tool}`)
  if (existsSync(path.join(project, 'node_modules/node-llama-cpp')))
    wrongs.push('node-llama-cpp was installed, unasked')

  writePrograms(project)
  for (const { name, passed, output } of checkTypes(project, modules)) {
    if (!passed) wrongs.push(`${name}: ${output}`)
  }
  const prepared = { project, tarball, bytes: packed.size, installMs, wrongs }
  if (wrongs.length === 0) writeFileSync(done, JSON.stringify(prepared))
  return prepared
}

/** A PATH on which every build tool fails and leaves its name. */
function poisonedTools(directory) {
  const bin = path.join(directory, 'poisoned')
  const log = path.join(directory, 'poisoned.log')
  mkdirSync(bin, { recursive: true })
  writeFileSync(log, '')
  for (const tool of buildTools) {
    writeFileSync(path.join(bin, tool), `#!/bin/sh\necho ${tool} >> '${log}'\nexit 1\n`)
    chmodSync(path.join(bin, tool), 0o755)
    writeFileSync(path.join(bin, `${tool}.cmd`), `@echo ${tool}>> "${log}"\r\n@exit /b 1\r\n`)
  }
  const env = { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH}` }
  for (const name of ['CC', 'CXX', 'PYTHON', 'npm_config_python']) delete env[name]
  return { env, called: () => [...new Set(readFileSync(log, 'utf8').split(/\r?\n/).filter(Boolean))] }
}

/** As tarballs: from a folder, npm would run their authors' scripts. */
function packDependencies(packageDirectory, modules, directory) {
  const { dependencies } = JSON.parse(readFileSync(path.join(packageDirectory, 'package.json'), 'utf8'))
  const overrides = {}
  for (const name of Object.keys(dependencies)) {
    const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', directory]
    const [{ filename }] = JSON.parse(npm(args, path.join(modules, name)))
    overrides[name] = `file:${path.join(directory, filename)}`
  }
  return overrides
}
