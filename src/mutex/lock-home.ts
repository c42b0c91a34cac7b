// Where lock files (POSIX) and owner records (Windows) live. One fixed place, not TMPDIR or XDG_RUNTIME_DIR: processes
// that disagree on it do not exclude each other. Not /dev/shm either, which a logout may clear (RemoveIPC in
// logind.conf(5)).
import { realpathSync } from 'node:fs'
import path from 'node:path'
import { MutexArgumentError } from './errors.ts'
import type { LockHome } from './mutex-platform.ts'
import { platform } from './platform.ts'

/** The lock homes in use: from the path as given to the real path. */
const homes = new Map<string, string>()
/** Those that were checked for a warning. */
const looked = new Set<string>()

/**
 * The lock home: `directory`, else `OS_MUTEX_DIR`, else the default. Warns once if its mutexes may exclude fewer
 * processes than expected.
 */
export function lockHome(directory: string | undefined): LockHome {
  const { defaultHome } = platform
  const chosen = directory ?? (process.env.OS_MUTEX_DIR || defaultHome)
  if (typeof chosen !== 'string' || chosen === '' || chosen.includes('\0')) {
    throw new MutexArgumentError('ERR_MUTEX_INVALID_ARGUMENT', 'The option "directory" must be the path of a directory')
  }
  const given = path.resolve(chosen)
  const home = realHome(given)
  if (home !== undefined) warnIfUnsafe(home)
  // On Windows, path.relative ignores case. Real paths are the same through every link.
  const isDefault = path.relative(home ?? given, realHome(defaultHome) ?? defaultHome) === ''
  return { directory: home ?? given, isDefault }
}

/** Undefined: it does not exist yet. The next call looks again. */
function realHome(given: string): string | undefined {
  const known = homes.get(given)
  if (known !== undefined) return known
  const home = realPath(given)
  if (home === undefined) return undefined
  homes.set(given, home)
  return home
}

/** By real paths, a mutex is recognised as the same through every link that leads to it. */
function realPath(directory: string): string | undefined {
  try {
    return realpathSync.native(directory)
  } catch {
    return undefined
  }
}

function warnIfUnsafe(home: string): void {
  if (looked.has(home)) return
  looked.add(home)
  const warning = platform.warningOf(home)
  if (warning !== undefined) process.emitWarning(warning.message, { type: 'MutexWarning', code: warning.code })
}
