// Programs of the system that a target needs: installed where this user may, else asked for.
import { spawnSync } from 'node:child_process'

let areListsFresh = false

export function requirePackages(...packages) {
  const missing = packages.filter((name) => !isInstalled(name))
  if (missing.length === 0) return
  const command = `apt-get install --no-install-recommends ${missing.join(' ')}`
  if (process.geteuid() !== 0) throw new Error(`Missing packages. As root: ${command}`)
  console.error(command)
  if (!areListsFresh) apt('update')
  areListsFresh = true
  apt('install', '-y', '--no-install-recommends', ...missing)
}

function isInstalled(name) {
  const { stdout } = spawnSync('dpkg-query', ['-W', '-f', `\${db:Status-Status}`, name], { encoding: 'utf8' })
  return stdout === 'installed'
}

function apt(...args) {
  call('apt-get', ['-q', ...args], { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
}

/** Runs a program whose output matters only if it fails. */
export function call(command, args, options = {}) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', ...options })
  if (status === 0) return
  throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? `${stdout ?? ''}${stderr ?? ''}`}`)
}
