// The scripts of a release, with types, and a checkout of one's own to release from.
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
export const inClone = { skip: existsSync(join(root, '.git')) ? false : 'not a clone' }

interface Address {
  readonly web: string
  readonly fields: { homepage: string; bugs: { url: string }; repository: { type: string; url: string } }
  at(kind: 'file' | 'folder' | 'raw', tag: string, path: string): string
}
interface Scripts {
  parseAddress(text: string, origin: string, server?: string): Address
  findAddress(options: { root: string; given?: string; env?: NodeJS.ProcessEnv }): Address
  linksOf(text: string): { target: string; isImage: boolean; line: number }[]
  anchorsOf(text: string): Set<string>
  brokenLinks(root: string, files: readonly string[]): string[]
  prebuilds: string[]
  npm(args: readonly string[], cwd: string, env?: NodeJS.ProcessEnv): string
}

export async function load<Name extends keyof Scripts>(module: string, name: Name): Promise<Scripts[Name]> {
  return (await import(pathToFileURL(join(root, 'scripts', `${module}.mjs`)).href))[name]
}

/** What git has, and what it would take. */
export function filesOf(checkout: string): string[] {
  const { status, stdout, stderr } = spawnSync(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    {
      cwd: checkout,
      encoding: 'utf8',
    },
  )
  if (status !== 0) throw new Error(`git ls-files: ${stderr}`)
  return stdout.split('\0').filter((file) => file !== '' && existsSync(join(checkout, file)))
}

/**
 * A clone of what lies in the checkout, with a few bytes for each addon. Its `npm pack` does not look at how they were
 * made.
 */
export class Clone implements Disposable {
  readonly folder = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-clone-')))
  readonly path = join(this.folder, 'checkout')

  static async open({ remote }: { remote?: string } = {}): Promise<Clone> {
    const clone = new Clone()
    for (const file of filesOf(root)) cpSync(join(root, file), join(clone.path, file))
    cpSync(join(root, 'dist'), join(clone.path, 'dist'), { recursive: true })
    for (const file of await load('pack-test/contents', 'prebuilds')) clone.write(file, `stands for ${file}`)
    const manifest = JSON.parse(clone.read('package.json'))
    delete manifest.scripts.prepack
    clone.write('package.json', JSON.stringify(manifest))
    clone.git('init', '--quiet')
    clone.commit()
    if (remote !== undefined) clone.git('remote', 'add', 'origin', remote)
    return clone
  }

  get tarballName(): string {
    return `os-mutex-${JSON.parse(this.read('package.json')).version}.tgz`
  }

  get tarball(): string {
    return join(this.path, this.tarballName)
  }

  commit(): void {
    this.git('add', '--all')
    this.git('-c', 'user.name=test', '-c', 'user.email=test@localhost', 'commit', '--quiet', '--message', 'all')
  }

  git(...args: string[]): string {
    const { status, stdout, stderr } = spawnSync('git', args, { cwd: this.path, encoding: 'utf8' })
    if (status !== 0) throw new Error(`git ${args[0]}: ${stderr}`)
    return stdout
  }

  read(file: string): string {
    return readFileSync(join(this.path, file), 'utf8')
  }

  write(file: string, text: string): void {
    mkdirSync(dirname(join(this.path, file)), { recursive: true })
    writeFileSync(join(this.path, file), text)
  }

  release(args: readonly string[] = [], env: NodeJS.ProcessEnv = {}): SpawnSyncReturns<string> {
    const program = join(root, 'scripts/release/pack.mjs')
    const { GITHUB_REPOSITORY: _, GITHUB_SERVER_URL: __, ...own } = process.env
    return spawnSync(process.execPath, [program, '--package', this.path, ...args], {
      encoding: 'utf8',
      env: { ...own, ...env },
    })
  }

  /** The folder of the packed package, and its files. */
  unpacked(): { path: string; files: string[] } {
    // By relative paths: a tar of GNU takes `C:` for a host.
    const { status, stderr } = spawnSync('tar', ['-xzf', relative(this.folder, this.tarball)], { cwd: this.folder })
    if (status !== 0) throw new Error(`tar: ${stderr}`)
    const path = join(this.folder, 'package')
    const entries = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    return {
      path,
      files: entries.map((entry) => relative(path, join(entry.parentPath, entry.name)).replaceAll(sep, '/')),
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true })
  }
}
