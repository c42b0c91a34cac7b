// What is mounted where, as Linux reports it in /proc/self/mountinfo (proc(5)).
import { readFileSync } from 'node:fs'

export interface Mount {
  readonly point: string
  /** Which folder of the file system is mounted there. */
  readonly root: string
  /** Of the file system: `ext4`, `fuseblk`, `fuse.sshfs`. */
  readonly type: string
}

/** This process's mounts; empty where the system has no such file. */
export function readMounts(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8')
  } catch {
    return ''
  }
}

/** The mount that a directory is on. `mountinfo`: the file's text. */
export function mountAbove(directory: string, mountinfo: string): Mount | undefined {
  let found: Mount | undefined
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ').map(unescapeField)
    const [, , , root, point] = fields
    if (root === undefined || point === undefined) continue
    const isAbove = directory === point || directory.startsWith(point === '/' ? '/' : `${point}/`)
    // Of two mounts on one point, the later covers the earlier. The type follows the end of the optional fields.
    if (isAbove && point.length >= (found?.point.length ?? 0)) {
      found = { point, root, type: fields[fields.indexOf('-') + 1] ?? '' }
    }
  }
  return found
}

function unescapeField(field: string): string {
  return field.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
