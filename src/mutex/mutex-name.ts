// The grammar of mutex names (Win32's) and their one-to-one mapping to file names.
//
// "The name can have a "Global\" or "Local\" prefix to explicitly create the object in the global or session namespace.
// The remainder of the name can contain any character except the backslash character (\)." — CreateMutexExW, Win32
import { createHash } from 'node:crypto'
import { inspect } from 'node:util'
import { MutexArgumentError } from './errors.ts'
import { invalidArgument } from './options.ts'
import { warnOfSwallowedBackslash } from './prefix-warning.ts'

/**
 * The longest name in UTF-16 units, in Win32's spelling: `Global\` counts, even where the option `scope` replaces it.
 * This is Win32's MAX_PATH.
 */
const MAX_NAME_UNITS = 260

export const FILE_PREFIX = '.os-mutex-'
// NAME_MAX is 255 bytes, which must also hold the prefix and the longest suffix ("~wait").
const MAX_ENCODED = 230

/**
 * Who shares a mutex. `global`: all users and sessions of the machine. `local`: this user (POSIX) or session (Windows).
 */
export type MutexScope = 'global' | 'local'

export interface ParsedName {
  readonly scope: MutexScope
  /** The name without its prefix. */
  readonly base: string
}

const PREFIXES = { global: 'Global\\', local: 'Local\\' } as const

function shortened(text: string, units: number): string {
  return text.length > units ? `${text.slice(0, units)}…` : text
}

function invalid(name: unknown, reason: string): MutexArgumentError {
  const shown = inspect(typeof name === 'string' ? shortened(name, 80) : name, { depth: 0 })
  return new MutexArgumentError('ERR_MUTEX_INVALID_NAME', `Invalid mutex name ${shown}: ${reason}`)
}

/**
 * Splits a name into scope and rest. The scope is that of the prefix, or the option `scope`, or local. `Global\x` and
 * `x` with the scope global are one mutex, and the two spellings accept the same names: 253 UTF-16 units without the
 * prefix. The scope local implies no prefix, as in Win32: 260 units, or 254 after `Local\`.
 * @throws `TypeError` `ERR_MUTEX_INVALID_NAME`; `ERR_MUTEX_INVALID_ARGUMENT` for an invalid scope
 */
export function parseMutexName(name: unknown, scope?: unknown): ParsedName {
  if (typeof name !== 'string') throw invalid(name, `it must be a string, not ${name === null ? 'null' : typeof name}`)
  if (scope !== undefined && scope !== 'global' && scope !== 'local')
    throw invalidArgument(`The option "scope" must be 'global' or 'local', not ${inspect(scope, { depth: 0 })}`)
  const prefixed = name.startsWith(PREFIXES.global) ? 'global' : name.startsWith(PREFIXES.local) ? 'local' : undefined
  if (prefixed !== undefined && scope !== undefined && prefixed !== scope)
    throw invalid(name, `its prefix says ${prefixed}, but the option "scope" says ${scope}: remove one of them`)
  const base = prefixed === undefined ? name : name.slice(PREFIXES[prefixed].length)
  checkLength(name, prefixed === undefined && scope === 'global' ? PREFIXES.global : '')
  checkBase(name, base)
  if (prefixed === undefined && scope === undefined) warnOfSwallowedBackslash(name)
  return { scope: prefixed ?? scope ?? 'local', base }
}

function checkLength(name: string, impliedPrefix: string): void {
  const units = impliedPrefix.length + name.length
  if (units <= MAX_NAME_UNITS) return
  const counted = impliedPrefix === '' ? '' : ` (including "${impliedPrefix}", which the scope implies)`
  throw invalid(name, `it has ${units} UTF-16 units${counted}; the limit is ${MAX_NAME_UNITS}`)
}

function checkBase(name: string, base: string): void {
  if (base === '') throw invalid(name, 'it is empty')
  checkMistypedPrefix(name, base)
  if (base.includes('\\')) {
    throw invalid(name, 'a backslash is only allowed at the end of the prefix "Global\\" or "Local\\" (case-sensitive)')
  }
  if (base.includes('\0'))
    throw invalid(name, 'it contains a NUL character, which no operating system allows in a name')
}

/** The character that JavaScript makes of a backslash and a letter, and that letter. */
const ESCAPES: Readonly<Record<string, string>> = {
  '\0': '0',
  '\b': 'b',
  '\t': 't',
  '\n': 'n',
  '\v': 'v',
  '\f': 'f',
  '\r': 'r',
}

/**
 * Refuses `Global/App`, `Local:App` and `'Global\backup'`: each would be a mutex of another name and, for most, of
 * another scope.
 */
function checkMistypedPrefix(name: string, base: string): void {
  const [, word, mark = '', rest = ''] = /^(global|local)([/:]|\p{Cc})(.*)$/isu.exec(base) ?? []
  if (word === undefined) return
  const scope = word.toLowerCase() as MutexScope
  const isTyped = mark === '/' || mark === ':'
  const meant = shortened((ESCAPES[mark] ?? '') + rest, 20) || 'name'
  const what = isTyped ? `"${mark}"` : `the control character ${inspect(mark)}`
  throw invalid(
    name,
    `${what} after ${word} is probably meant as a backslash${isTyped ? '' : ', which JavaScript swallowed'}. ` +
      `Instead of a prefix use the option: ${inspect(meant)}, { scope: '${scope}' }`,
  )
}

/**
 * The file name for a name without its prefix: one-to-one, also on file systems that fold case or normalise Unicode.
 * `a`–`z`, `0`–`9`, `_`, `-` and `.` stand for themselves, `+a` for `A`, `%0020` for a UTF-16 unit by its number; a
 * name that would grow too long becomes `=` and its SHA-256.
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
  // Windows drops a final dot when it parses a path.
  if (encoded.endsWith('.')) encoded = `${encoded.slice(0, -1)}%002e`
  // ".os-mutex-u1000" is the directory of user 1000's own mutexes.
  if (/^u\d+$/.test(encoded)) encoded = `%0075${encoded.slice(1)}`
  // Hashed as UTF-16 and not as UTF-8, which gives all lone surrogates the same bytes.
  if (encoded.length > MAX_ENCODED) encoded = `=${createHash('sha256').update(base, 'utf16le').digest('hex')}`
  return encoded
}
