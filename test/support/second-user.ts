// Another, unprivileged user of the machine, in whose name root can start processes.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const isRoot = process.geteuid?.() === 0
/** "nobody". */
export const secondUser = 65534

function whyNot(): string | undefined {
  if (process.platform === 'win32') return "Windows starts processes of another user only by that user's password"
  if (!isRoot) return 'only root can start processes of a second user'
  const program = fileURLToPath(new URL('./party-main.js', import.meta.url))
  const { status } = spawnSync(process.execPath, ['--check', program], { uid: secondUser, gid: secondUser })
  return status === 0 ? undefined : `user ${secondUser} can't read this checkout or run ${process.execPath}`
}

const reason = whyNot()

/** Options of a test that needs a second user: skips it, with the reason, where there can't be one. */
export const withSecondUser = reason === undefined ? {} : { skip: reason }
