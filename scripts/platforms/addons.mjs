// The addons in prebuilds/ that a run needs: built unless they are what prebuilds/SHA256SUMS says and their sources are, too.
import { problemOfPrebuild } from '../prebuild/sums.mjs'
import { root, run } from '../setup.mjs'

export function provideAddons(files) {
  const needed = [...new Set(files)].filter((file) => problemOfPrebuild(root, file) !== undefined)
  if (needed.length > 0) run(process.execPath, ['scripts/prebuild.mjs', ...needed])
}
