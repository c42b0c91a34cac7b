// Whether a directory that looks shared is private to some processes: /tmp of a systemd service with PrivateTmp=yes
// (systemd.exec(5)), of a login with pam_namespace(8), of a snap. Each of them mounts its own folder over /tmp, and the
// mount's root shows which of them it is. A private tmpfs looks like any other.
import { mountAbove, readMounts } from './mounts.ts'

const kinds: readonly (readonly [root: RegExp, owner: string])[] = [
  [/\/systemd-private-[^/]+\//, 'a systemd service with PrivateTmp=yes'],
  [/\/snap-private-tmp\/|\/snap\.[^/]+\/tmp/, 'a snap'],
  [/\/[^/]*(?:\.inst|-inst|tmp-inst)\//, 'a login session with pam_namespace'],
]

/** What the directory is private to, or undefined. `mountinfo`: the text of `/proc/self/mountinfo`, as in proc(5). */
export function privateMount(directory: string, mountinfo: string): string | undefined {
  const found = mountAbove(directory, mountinfo)
  return kinds.find(([root]) => root.test(`${found?.root}/`))?.[1]
}

/** The same, of this process's mounts. */
export function privateMountOf(directory: string): string | undefined {
  return privateMount(directory, readMounts())
}
