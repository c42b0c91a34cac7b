// Whether a directory that looks shared is private to some processes: /tmp of a systemd service with PrivateTmp=yes
// (systemd.exec(5)), of a login with pam_namespace(8), of a snap. Each of them mounts its own folder over /tmp, and the
// mount's root shows which of them it is. A private tmpfs looks like any other.
import { readFileSync } from 'node:fs'

const kinds: readonly (readonly [root: RegExp, owner: string])[] = [
  [/\/systemd-private-[^/]+\//, 'a systemd service with PrivateTmp=yes'],
  [/\/snap-private-tmp\/|\/snap\.[^/]+\/tmp/, 'a snap'],
  [/\/[^/]*(?:\.inst|-inst|tmp-inst)\//, 'a login session with pam_namespace'],
]

/** What the directory is private to, or undefined. `mountinfo`: the text of `/proc/self/mountinfo`, as in proc(5). */
export function privateMount(directory: string, mountinfo: string): string | undefined {
  let found: { point: string; root: string } | undefined
  for (const line of mountinfo.split('\n')) {
    const [, , , root, point] = line.split(' ').map(unescapeField)
    if (root === undefined || point === undefined) continue
    const isAbove = directory === point || directory.startsWith(point === '/' ? '/' : `${point}/`)
    // Of two mounts on one point, the later covers the earlier.
    if (isAbove && point.length >= (found?.point.length ?? 0)) found = { point, root }
  }
  return kinds.find(([root]) => root.test(`${found?.root}/`))?.[1]
}

/** Asks this process's `/proc/self/mountinfo`. Undefined also where there is none. */
export function privateMountOf(directory: string): string | undefined {
  try {
    return privateMount(directory, readFileSync('/proc/self/mountinfo', 'utf8'))
  } catch {
    return undefined
  }
}

function unescapeField(field: string): string {
  return field.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
}
