// An installation of os-mutex of a test's own: node_modules with chosen packages, where builds may fail and leave traces.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { started } from './start.ts'

const packageRoot = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const available = join(packageRoot, 'node_modules')

export class GateInstall implements AsyncDisposable {
  readonly path: string
  #programs = 0

  private constructor(path: string) {
    this.path = path
  }

  /** With a private copy of node-llama-cpp (but none of its binaries), or without it. The other packages are linked. */
  static async create(options: { readonly withNodeLlamaCpp: boolean }): Promise<GateInstall> {
    const install = new GateInstall(await mkdtemp(join(tmpdir(), 'os-mutex-install-')))
    const modules = join(install.path, 'node_modules')
    const own = join(modules, 'os-mutex')
    await mkdir(own, { recursive: true })
    // Deno looks for packages only below a package.json that names them.
    writeFileSync(join(install.path, 'package.json'), '{"dependencies":{"os-mutex":"*","node-llama-cpp":"*"}}')
    await cp(join(packageRoot, 'dist'), join(own, 'dist'), { recursive: true })
    await cp(join(packageRoot, 'package.json'), join(own, 'package.json'))
    for (const addons of ['build', 'prebuilds']) {
      if (existsSync(join(packageRoot, addons))) await linkOrCopy(join(packageRoot, addons), join(own, addons))
    }
    const { dependencies } = JSON.parse(await readFile(join(own, 'package.json'), 'utf8'))
    const names = options.withNodeLlamaCpp ? await readdir(available) : Object.keys(dependencies)
    for (const name of names) {
      if (!/node-llama-cpp$/.test(name)) await linkOrCopy(join(available, name), join(modules, name))
    }
    if (options.withNodeLlamaCpp) {
      // It may be a link, which would be copied as one.
      await cp(await realpath(join(available, 'node-llama-cpp')), join(modules, 'node-llama-cpp'), { recursive: true })
    }
    return install
  }

  /** Runs a module's text, from a file, with nothing on its PATH, so that neither git nor npm can be found. */
  run(program: string): ChildProcess {
    const file = join(this.path, `program-${this.#programs++}.mjs`)
    writeFileSync(file, program)
    return started(() =>
      spawn(process.execPath, [file], {
        cwd: this.path,
        env: { ...process.env, PATH: this.path },
        stdio: ['ignore', 'pipe', 'pipe'],
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true, maxRetries: 6 })
  }
}

/** A folder by a link (on Windows a junction, which anybody may make) or, where the system has none, as in Wine 8, by a copy. */
async function linkOrCopy(folder: string, link: string): Promise<void> {
  await symlink(folder, link, 'junction').catch(() => cp(folder, link, { recursive: true, dereference: true }))
}
