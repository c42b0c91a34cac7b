// The addons in prebuilds/ that a run needs: built unless they are what prebuilds/SHA256SUMS says and their sources are, too.
import { problemOfPrebuild, readSums, sourceHash } from '../prebuild/sums.mjs'
import { root, run } from '../setup.mjs'

export function provideAddons(files) {
  const needed = [...new Set(files)].filter((file) => problemOfPrebuild(root, file) !== undefined)
  if (needed.length > 0) run(process.execPath, ['scripts/prebuild.mjs', ...needed])
  // While the sources are being changed, the sums are of older ones.
  if (readSums(root).sources !== sourceHash(root)) return
  const others = needed.filter((file) => problemOfPrebuild(root, file) !== undefined)
  if (others.length > 0)
    throw new Error(`${others.join(', ')}: not the bytes that prebuilds/SHA256SUMS tells of, from the same sources`)
}
