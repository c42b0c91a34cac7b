import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const require = createRequire(join(root, 'package.json'))
const finder = dirname(require.resolve('node-gyp-build/package.json'))
const addon = readFileSync((require('node-gyp-build') as { path(directory: string): string }).path(root))

const platform = `${process.platform}-${process.arch}`
const garbage = Buffer.from('this is no library')
const onlyNode = { skip: process.versions.bun || 'Deno' in globalThis ? 'a flag of Node' : false }
const onLinux = { skip: process.platform === 'linux' ? false : 'changes an ELF file' }

/** The addon with a text in it changed, and nothing else. */
function altered(from: string, to: string): Buffer {
  assert.equal(from.length, to.length)
  assert.ok(addon.includes(from), `the addon names ${from}`)
  return Buffer.from(addon.toString('latin1').replaceAll(from, to), 'latin1')
}

interface Outcome {
  readonly held?: boolean
  readonly code?: string
  readonly message: string
  readonly cause: string
}

/** A project with a private copy of the package, whose addons are the given files and no others. */
class Project implements Disposable {
  readonly path = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-loader-')))
  readonly package: string

  constructor(files: Record<string, Buffer>, { folder = '', hasFinder = true } = {}) {
    const modules = join(this.path, folder, 'node_modules')
    this.package = join(modules, 'os-mutex')
    cpSync(join(root, 'dist'), join(this.package, 'dist'), { recursive: true })
    cpSync(join(root, 'package.json'), join(this.package, 'package.json'))
    if (hasFinder) cpSync(finder, join(modules, 'node-gyp-build'), { recursive: true, dereference: true })
    for (const [name, bytes] of Object.entries(files)) this.write(name, bytes)
    chmodSync(this.path, 0o755)
  }

  write(name: string, bytes: Buffer | string): void {
    const file = join(this.package, name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, bytes)
  }

  /** Takes a mutex in a new process, and tells what came of it. */
  load({ args = [], user, entry = 'dist/index.js' }: { args?: string[]; user?: number; entry?: string } = {}): Outcome {
    const program = join(this.package, 'try.mjs')
    writeFileSync(
      program,
      `const told = await import('./${entry}').then(
         ({ NamedMutex }) => ({ held: new NamedMutex('x', { directory: ${JSON.stringify(this.path)} }).tryAcquire() !== null }),
         (error) => ({ code: error.code, message: error.message, cause: String(error.cause) }))
       console.log(JSON.stringify(told))`,
    )
    const result = spawnSync(process.execPath, [...args, program], {
      encoding: 'utf8',
      ...(user === undefined ? {} : { uid: user, gid: user }),
    })
    assert.equal(result.status, 0, result.stderr)
    return JSON.parse(result.stdout)
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

function assertRefused(outcome: Outcome, ...said: (string | RegExp)[]): void {
  assert.equal(outcome.code, 'ERR_MUTEX_ADDON_NOT_FOUND')
  for (const words of said) {
    const isSaid = typeof words === 'string' ? outcome.message.includes(words) : words.test(outcome.message)
    assert.ok(isSaid, `${words} is not in: ${outcome.message}`)
  }
}

const plain = `prebuilds/${platform}/os-mutex.node`
const [glibc, musl] = ['glibc', 'musl'].map((libc) => `prebuilds/${platform}/os-mutex.${libc}.node`) as [string, string]

test('the addon of this platform is found in prebuilds/', () => {
  using project = new Project({ [plain]: addon, 'prebuilds/beos-x64/os-mutex.node': garbage })
  assert.deepEqual(project.load(), { held: true })
})

test("where one C library's file can't be loaded, the other's is", {
  skip: process.platform === 'linux' ? false : 'only on Linux are there two',
}, () => {
  // The right one under the wrong name stands for a musl system that is not Alpine, and for a wrong LIBC.
  for (const files of [{ [glibc]: garbage, [musl]: addon }, { [musl]: addon }, { [glibc]: addon, [musl]: garbage }]) {
    using project = new Project(files)
    assert.deepEqual(project.load(), { held: true })
  }
})

test("another machine's leftover in build/ does not hide the prebuilt addon that fits", () => {
  using project = new Project({ 'build/Release/os_mutex.node': garbage, [plain]: addon })
  assert.deepEqual(project.load(), { held: true })
})

test('a package without any addon says so, where it looked, and how to build one', () => {
  using project = new Project({})
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const outcome = project.load()
  assertRefused(
    outcome,
    platform,
    join(project.package, 'build', 'Release'),
    join(project.package, 'prebuilds', platform),
    'has no folders',
    'prebuilds/ is empty or was left out',
    `clone the repository of os-mutex at v${manifest.version}, run "npm run build"`,
  )
  assert.match(outcome.cause, /No native build was found/)
  // A release has its address.
  const repository = { type: 'git', url: 'git+https://github.com/owner/name.git' }
  project.write('package.json', JSON.stringify({ ...manifest, repository }))
  assertRefused(project.load(), `clone https://github.com/owner/name.git at v${manifest.version}, run`)
})

test('a package that was installed on another system says whose addons it has', () => {
  using project = new Project({ 'prebuilds/beos-x64/os-mutex.node': addon, 'prebuilds/haiku-arm/os-mutex.node': addon })
  assertRefused(project.load(), 'has beos-x64, haiku-arm', 'install the package on this system, not copied')
})

test('each file that failed is named with what the system said of it', () => {
  using project = new Project({ 'build/Release/os_mutex.node': garbage, [plain]: garbage })
  const outcome = project.load()
  const files = [join('build', 'Release', 'os_mutex.node'), join('prebuilds', platform, 'os-mutex.node')]
  assertRefused(outcome, ...files.map((file) => `${join(project.package, file)}: `), 'damaged')
  assert.ok(outcome.cause.includes(join(project.package, files[0] ?? '')), 'the cause is the first failure')
})

test("an addon for another processor, with this one's name, is told as such", {
  skip: addon.includes('libc.so.6\0') ? onLinux.skip : "only glibc looks at a file's processor",
}, () => {
  const foreign = Buffer.from(addon)
  foreign.writeUInt16LE(process.arch === 'x64' ? 183 : 62, 18) // e_machine: EM_AARCH64 or EM_X86_64
  using project = new Project({ [plain]: foreign })
  assertRefused(project.load(), /cannot open shared object file|wrong|Exec format/, 'for another system')
})

test('an addon that needs a newer glibc is told as such', {
  skip: addon.includes('GLIBC_2.') ? onLinux.skip : 'the addon is not for glibc',
}, () => {
  const newest = [...addon.toString('latin1').matchAll(/GLIBC_2\.\d+(?=\0)/g)][0]?.[0] ?? ''
  using project = new Project({ [plain]: altered(`${newest}\0`, `${newest.replace('GLIBC_2', 'GLIBC_9')}\0`) })
  assertRefused(project.load(), 'GLIBC_9', "this system's C library is older")
})

test('an addon for another C library is told as such', {
  skip: addon.includes('libc.so.6\0') ? onLinux.skip : 'the addon is not for glibc',
}, () => {
  using project = new Project({ [plain]: altered('libc.so.6\0', 'libc.so\0\0\0') }) // as musl's name is
  assertRefused(project.load(), /libc\.so: /, 'another C library (glibc, musl)')
})

// Which libraries the addon names depends on its compiler. Any may be taken for the missing one.
// libgcc_s.so.1 is named by a string, too: the library that is loaded before the first wait.
const library = ['libstdc++.so.6', 'libpthread.so.0'].find((name) => addon.includes(`${name}\0`))

test('a library that the addon needs and that is missing is told, with how to install it', {
  skip: library === undefined ? 'the addon needs no library but the C library' : onLinux.skip,
}, () => {
  const missing = 'libgcc_s.so.0'.padEnd(library?.length ?? 0, '\0')
  using project = new Project({ [plain]: altered(`${library}\0`, `${missing}\0`) })
  assertRefused(project.load(), 'libgcc_s.so.0', 'apt-get install libgcc-s1')
})

test('an addon that this user may not read is told as such', {
  skip: process.platform === 'win32' ? 'Windows has no file modes' : false,
}, () => {
  using project = new Project({ [plain]: addon })
  chmodSync(join(project.package, plain), 0)
  const outcome = project.load(process.getuid?.() === 0 ? { user: 65534 } : {})
  assertRefused(outcome, /permission denied/i, 'may not be read or run as code')
})

test('native addons that are switched off are told as such', {
  ...onlyNode,
}, () => {
  using project = new Project({ [plain]: addon })
  assertRefused(project.load({ args: ['--no-addons'] }), 'drop --no-addons')
})

test('a package inside an asar archive without its addon says what to unpack', () => {
  using project = new Project({}, { folder: 'resources/app.asar' })
  assertRefused(project.load(), 'asarUnpack', 'node_modules/os-mutex/docs/electron.md')
})

test('without node-gyp-build the addon is found all the same; only where there is none, its lack is told', () => {
  using project = new Project({ [plain]: addon }, { hasFinder: false })
  assert.deepEqual(project.load(), { held: true })
  project.write(plain, garbage)
  assertRefused(project.load(), "Cannot find module 'node-gyp-build'", 'with its dependencies')
})

test('the permission model of Node lets it load where the user allows the package and addons', onlyNode, () => {
  using project = new Project({ [plain]: addon })
  const permission = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission'
  const args = [permission, `--allow-fs-read=${project.path}`, `--allow-fs-write=${project.path}`]
  assert.deepEqual(project.load({ args: [...args, '--allow-addons'] }), { held: true })
  assertRefused(project.load({ args }), 'add --allow-addons')
})

test('code that a bundler has taken out of the package asks to be left in it', () => {
  using project = new Project({ [plain]: addon })
  const built = (name: string) => readFileSync(join(root, 'dist', name), 'utf8')
  // Two folders up there is a package.json of the app's, or none.
  project.write('app/package.json', '{"name":"app"}')
  for (const folder of ['app/out/main', 'none/out/main']) {
    for (const name of ['addon-error', 'bundled', 'caught', 'docs', 'errors']) {
      project.write(`${folder}/mutex/${name}.js`, built(`mutex/${name}.js`))
    }
    project.write(`${folder}/mutex/package.json`, '{"type":"commonjs"}')
    project.write(`${folder}/mutex/loader.js`, `${built('mutex/addon-loader.js')}\nloadAddon()`)
    // As in a bundle of ES modules.
    project.write(
      `${folder}/mutex/no-name.js`,
      `{ const __filename = undefined; ${built('mutex/addon-loader.js')}\nloadAddon() }`,
    )
    project.write(`${folder}/main.mjs`, built('in-package.mjs'))
    for (const entry of ['mutex/loader.js', 'mutex/no-name.js', 'main.mjs']) {
      const outcome = project.load({ entry: `${folder}/${entry}` })
      assertRefused(
        outcome,
        "declare 'os-mutex' external",
        '--external:os-mutex',
        'serverExternalPackages',
        '/os-mutex/docs/bundlers.md',
      )
    }
  }
})
