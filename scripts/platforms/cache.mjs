// What takes long to get is kept in .cache/platforms: runtimes, Wine prefixes, root folders. (Not in node_modules, which `npm ci`
// deletes.)
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import path from 'node:path'
import { root } from '../setup.mjs'

/** A folder of the cache; it exists. */
export function cache(...names) {
  const folder = path.join(root, '.cache/platforms', ...names)
  mkdirSync(folder, { recursive: true })
  return folder
}

/** A folder that `make(folder)` fills, once. It gets its name when it is whole, so that one begun and not finished is never used. */
export async function cachedFolder(kind, name, make) {
  const folder = path.join(cache(kind), name)
  if (existsSync(folder)) return folder
  const begun = mkdtempSync(path.join(cache(kind), `.${name}-`))
  try {
    chmodSync(begun, 0o755) // tests of a second user go through it
    await make(begun)
    renameSync(begun, folder)
  } catch (error) {
    rmSync(begun, { recursive: true, force: true })
    throw error
  }
  return folder
}
