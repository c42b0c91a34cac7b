// The name of an errno value.
import os from 'node:os'
import { getSystemErrorName } from 'node:util'

/** libuv calls some of them unknown, of which ENOLCK, ESTALE and EDQUOT do occur. */
const names = new Map(Object.entries(os.constants.errno).map(([name, errno]) => [errno, name]))

/** Of a positive errno of this system, such as `ENOENT`. */
export function errnoName(errno: number): string {
  if (errno === 0) return 'OK'
  const name = getSystemErrorName(-errno)
  return name.startsWith('Unknown') ? (names.get(errno) ?? name) : name
}
