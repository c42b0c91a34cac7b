// Before `npm pack` and `npm publish`: refuses to ship addons that are missing, altered or stale, and JavaScript that is not what src/
// compiles to.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { problemsOfPrebuilds } from './sums.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const problems = [...problemsOfPrebuilds(root), ...problemsOfDist()]
if (problems.length > 0) {
  console.error(`\nThis package must not be shipped:\n${problems.map((problem) => `  ${problem}`).join('\n')}\n`)
  process.exitCode = 1
}

function* problemsOfDist() {
  const scratch = mkdtempSync(path.join(tmpdir(), 'os-mutex-dist-'))
  try {
    const tsc = path.join(root, 'node_modules/typescript/bin/tsc')
    const { status, stdout } = spawnSync(process.execPath, [
      tsc,
      '-p',
      path.join(root, 'tsconfig.json'),
      '--outDir',
      scratch,
    ])
    if (status !== 0) return yield `src/ does not compile: ${stdout}`
    const [made, there] = [filesIn(scratch), filesIn(path.join(root, 'dist'))]
    for (const file of new Set([...made.keys(), ...there.keys()])) {
      if (made.get(file)?.equals(there.get(file) ?? Buffer.alloc(0)) === true) continue
      yield made.has(file)
        ? `dist/${file} is missing or stale. Run: npm run build`
        : `dist/${file} is of no source. Delete it`
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

function filesIn(folder) {
  try {
    const names = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    const files = names.map((entry) => path.join(entry.parentPath, entry.name))
    return new Map(files.map((file) => [path.relative(folder, file), readFileSync(file)]))
  } catch {
    return new Map()
  }
}
