// Finds and loads the native addon. Which file fits is for node-gyp-build to say; what may be tried besides is said
// here.
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Attempt, addonError, bundledError, packageJsonOf } from './addon-error.ts'

/** What the addon of this platform exports, from `build/` or `prebuilds/`. Throws `ERR_MUTEX_ADDON_NOT_FOUND`. */
export function loadAddon(): unknown {
  // A bundler that makes CommonJS leaves no import.meta.url.
  const here: unknown = import.meta.url
  if (typeof here !== 'string') throw bundledError('a bundle without import.meta.url')
  const root = fileURLToPath(new URL('../..', here))
  const require = createRequire(here)
  let findAddon: { resolve(directory: string): string }
  try {
    findAddon = require('node-gyp-build')
  } catch (cause) {
    throw isPackage(root) ? addonError(root, [{ file: 'node-gyp-build', error: cause }]) : bundledError(here, cause)
  }
  const attempts: Attempt[] = []
  for (const file of candidates(findAddon, root, attempts)) {
    try {
      return require(file)
    } catch (error) {
      attempts.push({ file, error })
    }
  }
  throw isPackage(root) ? addonError(root, attempts) : bundledError(here, attempts[0]?.error)
}

/**
 * First node-gyp-build's choice. It knows musl only by Alpine's /etc/alpine-release, and prefers whatever is in build/,
 * also what another machine has left there; so the other files for this system follow.
 */
function* candidates(findAddon: { resolve(directory: string): string }, root: string, attempts: Attempt[]) {
  let chosen: string | undefined
  try {
    chosen = findAddon.resolve(root)
  } catch (error) {
    attempts.push({ file: undefined, error })
  }
  if (chosen !== undefined) yield chosen
  for (const file of prebuiltFor(root, process.platform, process.arch)) if (file !== chosen) yield file
}

/** A folder is for one processor or, on macOS, for several: `darwin-x64+arm64`. */
function prebuiltFor(root: string, platform: string, arch: string): string[] {
  const prebuilds = join(root, 'prebuilds')
  return namesIn(prebuilds)
    .filter((name) => {
      const [os, cpus] = name.split('-')
      return os === platform && cpus?.split('+').includes(arch) === true
    })
    .flatMap((folder) => namesIn(join(prebuilds, folder)).map((name) => join(prebuilds, folder, name)))
    .filter((file) => file.endsWith('.node'))
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).sort()
  } catch {
    return []
  }
}

/** False in a bundle: there this code runs from a file of somebody else's. */
function isPackage(root: string): boolean {
  return packageJsonOf(root)?.name === 'os-mutex'
}
