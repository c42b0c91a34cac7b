// Where the package is tried: folders with the tools of one package-lock.json, with os-mutex as it is packed, and with a project for each
// row. None is in the checkout, whose node_modules the projects would find.
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { npm } from '../pack-test/npm.mjs'
import { provideAddons } from '../platforms/addons.mjs'
import { installPackages, root } from '../setup.mjs'

const here = path.join(root, 'scripts/consumers')
const home = path.join(tmpdir(), 'os-mutex-consumers')
/** The platforms that the whole table is made on. */
const addons = { 'linux-x64': ['linux-x64/os-mutex.glibc.node'] }

/** The packed package, with the prebuilt addon of this platform only. Returns the tarball's path. */
export function pack() {
  const files = addons[`${process.platform}-${process.arch}`]
  if (files === undefined) throw new Error('The consumers are tried on Linux x64 (glibc)')
  provideAddons(files)
  mkdirSync(home, { recursive: true })
  const staged = mkdtempSync(path.join(home, '.stage-'))
  try {
    const [planned] = JSON.parse(npm(['pack', '--dry-run', '--json', '--ignore-scripts'], root))
    const packed = planned.files.map((file) => file.path).filter((file) => !file.endsWith('.node'))
    for (const file of [...packed, ...files.map((file) => `prebuilds/${file}`)]) {
      cpSync(path.join(root, file), path.join(staged, file))
    }
    const [{ filename }] = JSON.parse(npm(['pack', '--json', '--ignore-scripts', '--pack-destination', home], staged))
    return path.join(home, filename)
  } finally {
    rmSync(staged, { recursive: true, force: true })
  }
}

/** The folder of a set of tools, with os-mutex installed beside them. */
export function openSet(name, tarball) {
  const lock = readFileSync(path.join(here, name, 'package-lock.json'))
  const set = path.join(home, `${name}-${createHash('sha256').update(lock).digest('hex').slice(0, 8)}`)
  mkdirSync(set, { recursive: true })
  for (const file of ['package.json', 'package-lock.json', '.npmrc'])
    cpSync(path.join(here, name, file), path.join(set, file))
  installPackages(set)
  const installed = path.join(set, 'node_modules/os-mutex')
  rmSync(installed, { recursive: true, force: true })
  mkdirSync(installed)
  must('tar', ['-xzf', tarball, '--strip-components=1', '-C', installed], set)
  return set
}

/** An empty project with these files. `alone`: it finds no package but those that it installs itself. */
export function openProject(set, name, { files = {}, links = [], alone = false }) {
  const project = path.join(
    alone ? path.join(home, 'alone') : path.join(set, 'projects'),
    name.replace(/[^\w.-]+/g, '-'),
  )
  rmSync(project, { recursive: true, force: true })
  mkdirSync(project, { recursive: true })
  const manifest = JSON.stringify({ name: 'consumer', version: '1.0.0', private: true })
  for (const [file, text] of Object.entries({ 'package.json': manifest, ...files })) {
    mkdirSync(path.dirname(path.join(project, file)), { recursive: true })
    writeFileSync(path.join(project, file), text)
  }
  for (const link of links) {
    const modules = path.join(project, 'node_modules')
    // Which looks for the other from where it lies itself.
    cpSync(path.join(set, 'node_modules/os-mutex'), path.join(modules, 'os-mutex'), { recursive: true })
    symlinkSync(path.join(root, 'node_modules', link), path.join(modules, link))
  }
  return project
}

export function versionIn(set, name) {
  const manifest = path.join(set, 'node_modules', name, 'package.json')
  return existsSync(manifest) ? JSON.parse(readFileSync(manifest, 'utf8')).version : undefined
}

/** Runs a command to its end, for at most five minutes. */
export async function run([program, ...args], { cwd, env }) {
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (text) => {
      output += text
    })
  }
  const end = () => {
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It has ended.
    }
  }
  const timer = setTimeout(end, 300_000)
  const code = await new Promise((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${error.message}`))
    child.once('close', (status, signal) => resolve(status ?? signal))
  })
  clearTimeout(timer)
  end()
  return { code, output }
}

function must(command, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (status === 0) return stdout
  throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr}`)
}
