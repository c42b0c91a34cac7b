// Finds and loads the native addon. node-gyp-build decides which file fits. This file decides what else is tried.
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Attempt, addonError, bundledError, packageJsonOf } from './addon-error.ts'

/**
 * Loads this platform's addon from `build/` or `prebuilds/` and returns what it exports.
 * @throws `MutexError` `ERR_MUTEX_ADDON_NOT_FOUND`
 */
export function loadAddon(): unknown {
  // A bundler that emits CommonJS leaves import.meta.url undefined.
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
 * Yields node-gyp-build's choice, and then the other files for this system, because that choice can be wrong: it
 * recognises musl only by Alpine's /etc/alpine-release, and it prefers a file in build/ even if another machine left it
 * there.
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

/** A folder is named after one processor or, on macOS, after several: `darwin-x64+arm64`. */
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

/** False in a bundle: there, this code runs from another program's file. */
function isPackage(root: string): boolean {
  return packageJsonOf(root)?.name === 'os-mutex'
}
