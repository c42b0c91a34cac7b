// A mutex whose owner records can't be kept locks as well as any (only Windows has it: there the lock is no file).
import path from 'node:path'
import type { NativeFailure } from './addon.ts'

const warned = new Set<string>()

/** Warns once for each directory. */
export function warnUnrecorded(failure: NativeFailure): void {
  const directory = path.dirname(failure.path)
  if (warned.has(directory)) return
  warned.add(directory)
  process.emitWarning(
    `Owner records can't be kept in ${directory} (${failure.syscall}, Win32 error ${failure.errno}). Locking works, but those who ` +
      'wait are not told who holds a mutex, nor how far its work has come. Let all users create files there and write to them, or ' +
      'choose a local directory by OS_MUTEX_DIR or the option "directory" in all programs that share the mutex.',
    { type: 'MutexWarning', code: 'OS_MUTEX_NO_RECORD' },
  )
}
