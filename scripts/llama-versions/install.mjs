// Installs one version of node-llama-cpp into .cache/llama/<version>: the package and its binary for the CPU of this machine.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { npmCommand, root } from '../setup.mjs'

const platforms = { win32: 'win', darwin: 'mac' }
// On Apple silicon there is one binary, with Metal.
const variant = process.platform === 'darwin' && process.arch === 'arm64' ? '-metal' : ''
const binaryPackage = `@node-llama-cpp/${platforms[process.platform] ?? process.platform}-${process.arch}${variant}`

/** The newest release of the major version 3. */
export function newestVersion() {
  const versions = JSON.parse(npm(['view', 'node-llama-cpp@3', 'version', '--json']))
  return [versions].flat().at(-1)
}

/** The folder that has it in its node_modules. Throws, with npm's words, when it cannot be installed. */
export function installVersion(version) {
  const folder = path.join(root, '.cache/llama', version)
  const installed = path.join(folder, 'installed.json')
  // Every binary is an optional dependency of node-llama-cpp. Those for GPUs take 600 MB.
  const dependencies = { 'node-llama-cpp': version, [binaryPackage]: version }
  const manifest = JSON.stringify({ private: true, dependencies })
  if (existsSync(installed) && readFileSync(installed, 'utf8') === manifest) return folder
  console.error(`installing node-llama-cpp ${version}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  writeFileSync(path.join(folder, 'package.json'), manifest)
  npm(['install', '--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund'], folder)
  const { version: found } = JSON.parse(
    readFileSync(path.join(folder, 'node_modules/node-llama-cpp/package.json'), 'utf8'),
  )
  if (found !== version) throw new Error(`npm installed node-llama-cpp ${found} and not ${version}`)
  writeFileSync(installed, manifest)
  return folder
}

function npm(args, cwd = root) {
  const [command, before, options] = npmCommand()
  const stdio = ['ignore', 'pipe', 'pipe']
  const { status, stdout, stderr, error } = spawnSync(command, [...before, ...args], {
    ...options,
    cwd,
    stdio,
    encoding: 'utf8',
  })
  if (status === 0) return stdout
  throw new Error(`npm ${args.join(' ')} failed: ${error?.message ?? stderr}`)
}
