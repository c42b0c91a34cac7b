// The grammar of mutex names (Win32's) and their one-to-one mapping to file names.
//
// "The name can have a "Global\" or "Local\" prefix to explicitly create the object in the global or session namespace.
// The remainder of the name can contain any character except the backslash character (\)." — CreateMutexExW, Win32
import { createHash } from 'node:crypto'
import { inspect } from 'node:util'
import { MutexArgumentError } from './errors.ts'

/** The longest name, prefix included, in UTF-16 units: MAX_PATH. */
export const MAX_NAME_UNITS = 260

export const FILE_PREFIX = '.os-mutex-'
// NAME_MAX is 255 bytes; the prefix and the longest suffix ("~wait") go with it.
const MAX_ENCODED = 230

export type MutexScope = 'global' | 'local'

export interface ParsedName {
  readonly scope: MutexScope
  /** The name without its prefix. */
  readonly base: string
}

function invalid(name: unknown, reason: string): MutexArgumentError {
  const shown = inspect(typeof name === 'string' && name.length > 80 ? `${name.slice(0, 80)}…` : name, { depth: 0 })
  return new MutexArgumentError('ERR_MUTEX_INVALID_NAME', `Invalid mutex name ${shown}: ${reason}`)
}

/** Splits a name into scope and rest. Throws a `TypeError` with `ERR_MUTEX_INVALID_NAME`. */
export function parseMutexName(name: unknown): ParsedName {
  if (typeof name !== 'string') throw invalid(name, `it must be a string, not ${name === null ? 'null' : typeof name}`)
  const global = name.startsWith('Global\\')
  const local = name.startsWith('Local\\')
  const base = global ? name.slice('Global\\'.length) : local ? name.slice('Local\\'.length) : name
  if (base === '') throw invalid(name, 'it is empty')
  if (name.length > MAX_NAME_UNITS)
    throw invalid(name, `it has ${name.length} UTF-16 units, and ${MAX_NAME_UNITS} is the most`)
  if (base.includes('\\')) {
    throw invalid(name, 'a backslash may only end the prefix "Global\\" or "Local\\" (written just so)')
  }
  if (base.includes('\0'))
    throw invalid(name, 'it holds a NUL character, which no operating system can carry in a name')
  return { scope: global ? 'global' : 'local', base }
}

/**
 * The file name for a name without its prefix: one-to-one, also on file systems that fold case or normalise Unicode.
 * `a`–`z`, `0`–`9`, `_`, `-` and `.` stand for themselves, `+a` for `A`, `%0020` for a UTF-16 unit by its number; a name
 * that would grow too long becomes `=` and its SHA-256.
 */
export function encodeMutexName(base: string): string {
  let encoded = ''
  for (let index = 0; index < base.length; index++) {
    const unit = base.charCodeAt(index)
    const char = base.charAt(index)
    if (/[a-z0-9_.-]/.test(char)) encoded += char
    else if (/[A-Z]/.test(char)) encoded += `+${char.toLowerCase()}`
    else encoded += `%${unit.toString(16).padStart(4, '0')}`
  }
  // Windows drops a last dot where it parses a path.
  if (encoded.endsWith('.')) encoded = `${encoded.slice(0, -1)}%002e`
  // ".os-mutex-u1000" is the directory of user 1000's own mutexes.
  if (/^u\d+$/.test(encoded)) encoded = `%0075${encoded.slice(1)}`
  // Hashed by its UTF-16 units and not as UTF-8, which has one spelling for all lone surrogates.
  if (encoded.length > MAX_ENCODED) encoded = `=${createHash('sha256').update(base, 'utf16le').digest('hex')}`
  return encoded
}
