// A copy of the built package and its tests, whose node_modules has one version of node-llama-cpp with what that depends on.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import path from 'node:path'
import { root } from '../setup.mjs'

/** `folder`: from installVersion. */
export function stageVersion(version, folder) {
  const stage = path.join(folder, 'stage')
  rmSync(stage, { recursive: true, force: true })
  mkdirSync(path.join(stage, 'results'), { recursive: true })
  for (const what of ['package.json', 'README.md', 'dist', 'out'])
    cpSync(path.join(root, what), path.join(stage, what), { recursive: true })
  for (const addons of ['build', 'prebuilds'])
    if (existsSync(path.join(root, addons))) link(path.join(root, addons), path.join(stage, addons))
  cpSync(path.join(root, 'scripts/platforms/reporter.mjs'), path.join(stage, 'reporter.mjs'))
  linkModules(stage, path.join(folder, 'node_modules'))
  checkVersion(stage, version)
  return stage
}

/** The packages of the checkout, but all that the version has installed as the version has it, except our own dependencies. */
function linkModules(stage, theirs) {
  const { dependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'))
  const ours = path.join(root, 'node_modules')
  const target = path.join(stage, 'node_modules')
  mkdirSync(target)
  for (const name of new Set([...packagesIn(ours), ...packagesIn(theirs)])) {
    const isOurs = Object.hasOwn(dependencies, name) || !existsSync(path.join(theirs, name))
    // The binaries of another version are none.
    if (isOurs && name.startsWith('@node-llama-cpp/')) continue
    mkdirSync(path.dirname(path.join(target, name)), { recursive: true })
    link(path.join(isOurs ? ours : theirs, name), path.join(target, name))
  }
}

/** Names, with their scopes. */
function packagesIn(modules) {
  return readdirSync(modules)
    .filter((name) => !name.startsWith('.'))
    .flatMap((name) =>
      name.startsWith('@') ? readdirSync(path.join(modules, name)).map((one) => `${name}/${one}`) : name,
    )
}

function link(folder, at) {
  symlinkSync(folder, at, 'junction')
}

/** Otherwise a wrong link would test the checkout's version, and pass. */
function checkVersion(stage, version) {
  const program = `
    import { getModuleVersion } from 'node-llama-cpp'
    console.log(await getModuleVersion())`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: stage,
    encoding: 'utf8',
  })
  if (stdout.trim() !== version) throw new Error(`${stage} finds node-llama-cpp ${stdout}${stderr} and not ${version}`)
}
