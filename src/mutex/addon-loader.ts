// Finds and loads the native addon. node-gyp-build decides which file fits. This file decides what else is tried.
import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { type Attempt, addonError, packageJsonOf } from './addon-error.ts'
import { bundledError } from './bundled.ts'

/**
 * Loads this platform's addon from `build/` or `prebuilds/` and returns what it exports.
 * @throws `MutexError` `ERR_MUTEX_ADDON_NOT_FOUND`
 */
export function loadAddon(): unknown {
  // In a bundle this code runs from another program's file; one of ES modules has no name for it.
  if (typeof __filename !== 'string') throw bundledError('a bundle without __filename')
  const root = join(dirname(__filename), '..', '..')
  if (packageJsonOf(root)?.name !== 'os-mutex') throw bundledError(__filename)
  // Not the one of this module, which bundlers take for their own.
  const require = createRequire(__filename)
  const attempts: Attempt[] = []
  for (const file of candidates(require, root, attempts)) {
    try {
      return require(file)
    } catch (error) {
      attempts.push({ file, error })
    }
  }
  throw addonError(root, attempts)
}

/**
 * Yields node-gyp-build's choice, and then the other files for this system, because that choice can be wrong: it
 * recognises musl only by Alpine's /etc/alpine-release, which it may not be allowed to look for, and it prefers a file in build/
 * even if another machine left it there.
 */
function* candidates(require: NodeJS.Require, root: string, attempts: Attempt[]) {
  let chosen: string | undefined
  try {
    chosen = (require('node-gyp-build') as { resolve(directory: string): string }).resolve(root)
  } catch (error) {
    attempts.push({ file: undefined, error })
  }
  if (chosen !== undefined) yield chosen
  for (const file of [...builtIn(root), ...prebuiltFor(root, process.platform, process.arch)]) {
    if (file !== chosen) yield file
  }
}

function builtIn(root: string): string[] {
  const folder = join(root, 'build', 'Release')
  return namesIn(folder)
    .filter((name) => name.endsWith('.node'))
    .map((name) => join(folder, name))
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
