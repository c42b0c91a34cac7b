// The addons in prebuilds/ that a run needs: built unless they are what prebuilds/SHA256SUMS says and their sources are, too.
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { readSums, sha256, sourceHash } from '../prebuild/sums.mjs'
import { root, run } from '../setup.mjs'

export function provideAddons(files) {
  const { sources, sums } = readSums(root)
  const isFresh = (file) => {
    const whole = path.join(root, 'prebuilds', file)
    return sources === sourceHash(root) && existsSync(whole) && sha256(readFileSync(whole)) === sums.get(file)
  }
  const needed = [...new Set(files)].filter((file) => !isFresh(file))
  if (needed.length > 0) run(process.execPath, ['scripts/prebuild.mjs', ...needed])
}
