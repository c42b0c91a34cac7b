// Other Debian releases in a folder, for a C library or a Wine that this one has not.
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { packFolder } from '../pack-test/prepare.mjs'
import { root } from '../setup.mjs'
import { cachedFolder } from './cache.mjs'
import { call, requirePackages } from './debian.mjs'

/**
 * A Debian release's root folder with some packages. Returns the words that stand before a command to run it there, in the folder it
 * is started from. The checkout and the pack test's folder are all of this machine that is seen inside.
 */
export async function debianRoot(release, packages) {
  requirePackages('debootstrap')
  if (process.geteuid() !== 0) throw new Error('Another root folder (chroot) can only be entered by root')
  const folder = await cachedFolder('roots', [release, ...packages].join('-'), (begun) => {
    console.error(`installing Debian ${release} with ${packages.join(', ')}`)
    const include = packages.length > 0 ? [`--include=${packages.join(',')}`] : []
    call('debootstrap', ['--variant=minbase', ...include, release, begun, mirror()])
  })
  mkdirSync(packFolder, { recursive: true })
  return ['unshare', '--mount', 'sh', '-ec', enter, 'sh', folder, root, packFolder]
}

/** Debian's packages, from where this machine gets them. */
function mirror() {
  const args = ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages', 'Origin: Debian', 'Label: Debian']
  const { stdout } = spawnSync('apt-get', args, { encoding: 'utf8' })
  const [first] = stdout.trim().split('\n')
  if (!first) throw new Error('apt knows no mirror of Debian. Run: apt-get update')
  return first
}

// The mounts are in a namespace of the command's own and go with it. Each step replaces the one before: the process that is started
// is the one that takes signals.
const enter = `
root=$1
for folder in "$2" "$3"; do
  mkdir -p "$root$folder"
  mount --bind "$folder" "$root$folder"
done
shift 3
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec chroot "$root" sh -ec 'cd "$1"; shift; exec "$@"' sh "$PWD" "$@"
`
