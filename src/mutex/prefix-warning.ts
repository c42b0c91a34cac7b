// 'Global\App' with a single backslash is the string 'GlobalApp': a valid name, but of another mutex, which other users
// do not share.

// A letter before which JavaScript drops the backslash. It keeps \b, \n and the like as control characters, which are
// refused.
const SWALLOWED = /^Global(?![bfnrtuvx])\p{L}/u
/** A program with more such names has been warned enough, and the set must not grow with them. */
const MAX_WARNED = 100

const warned = new Set<string>()

/** Warns once for each name. */
export function warnOfSwallowedBackslash(name: string): void {
  if (!SWALLOWED.test(name) || warned.has(name) || warned.size >= MAX_WARNED) return
  warned.add(name)
  const rest = name.slice('Global'.length)
  process.emitWarning(
    `The mutex ${JSON.stringify(name)} is local: its name has no prefix. If it was written with one backslash (Global\\${rest}), ` +
      `JavaScript dropped the backslash: use the name ${JSON.stringify(rest)} with { scope: 'global' }. If the name is right, add { scope: 'local' }.`,
    { type: 'MutexWarning', code: 'OS_MUTEX_NAME_PREFIX' },
  )
}
