// Warns of owner records that can't be kept. Locking does not depend on them.
import path from 'node:path'
import type { NativeFailure } from './addon.ts'
import { platform } from './platform.ts'

const warned = new Set<string>()
const NO_ROOM = new Set(['ENOSPC', 'EDQUOT'])

/** What stands in the way, as the middle of a sentence. */
function reason({ kind, syscall, errno, path }: NativeFailure): string {
  switch (kind) {
    case 'notRegularFile':
      return `${path} is a link, directory or device`
    case 'hardLinked':
      return `${path} has a second name (hard link) and holds something other than a record`
    case 'foreignDirectory':
      return 'it is, or has become, a link or something other than a directory'
    case 'system':
      return `${syscall} failed with ${platform.errorName(errno)}`
  }
}

function remedy({ kind, errno }: NativeFailure): string {
  return kind === 'system' && NO_ROOM.has(platform.errorName(errno))
    ? 'Make room on that disk'
    : 'Let all users create files there and write to them'
}

/** Warns once for each directory. */
export function warnUnrecorded(failure: NativeFailure): void {
  const directory = path.dirname(failure.path)
  if (warned.has(directory)) return
  warned.add(directory)
  process.emitWarning(
    `Owner records can't be kept in ${directory}: ${reason(failure)}. Locking works, but waiters can't see who holds a mutex or how ` +
      'far its work is, and the next owner may not learn that the previous one ended without releasing ("abandoned"). ' +
      `${remedy(failure)}, or choose a local directory with OS_MUTEX_DIR or the option "directory" in all programs that share the mutex.`,
    { type: 'MutexWarning', code: 'OS_MUTEX_NO_RECORD' },
  )
}
