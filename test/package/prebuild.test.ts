import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const scripts = join(root, 'scripts/prebuild')
const inCheckout = { skip: existsSync(scripts) ? false : 'a copy of the package without its build scripts' }

interface Target {
  readonly file: string
  readonly os: 'linux' | 'win' | 'mac'
}
interface Scripts {
  targets: Target[]
  inspect(bytes: Buffer, target: Target, paths?: string[]): { summary: string; problems: string[] }
  readGyp(file: string, os: string): Record<'sources' | 'defines', string[]>
  writeSums(root: string, sums: Map<string, string>): void
  sha256(bytes: Buffer): string
  problemsOfPrebuilds(root: string): string[]
}

async function load<Name extends keyof Scripts>(module: string, name: Name): Promise<Scripts[Name]> {
  return (await import(pathToFileURL(join(scripts, `${module}.mjs`)).href))[name]
}

/** A private copy of what `npm pack` looks at, with a few bytes standing for each addon. */
class Checkout implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'os-mutex-prebuild-'))

  static async open(): Promise<Checkout> {
    const checkout = new Checkout()
    const copied = ['native', 'binding.gyp', 'package.json', 'package-lock.json', 'tsconfig.json', 'scripts', 'src']
    for (const name of copied) cpSync(join(root, name), join(checkout.path, name), { recursive: true })
    symlinkSync(join(root, 'node_modules'), join(checkout.path, 'node_modules'), 'junction')
    const sha256 = await load('sums', 'sha256')
    const sums = new Map<string, string>()
    for (const { file } of await load('targets', 'targets')) {
      const bytes = Buffer.from(`stands for ${file}`)
      mkdirSync(dirname(checkout.fileOf(file)), { recursive: true })
      writeFileSync(checkout.fileOf(file), bytes)
      sums.set(file, sha256(bytes))
    }
    ;(await load('sums', 'writeSums'))(checkout.path, sums)
    return checkout
  }

  fileOf(addon: string): string {
    return join(this.path, 'prebuilds', addon)
  }

  /** What is wrong with the addons alone, which is told at once: for all of `refusal`, TypeScript compiles the sources. */
  async problemsOfAddons(): Promise<string> {
    return (await load('sums', 'problemsOfPrebuilds'))(this.path).join('\n')
  }

  /** `dist`, from these sources. That of the whole checkout may be in the middle of a build. */
  compile(): void {
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', join(this.path, 'tsconfig.json')])
    assert.equal(status, 0, `${stdout}`)
  }

  /** What `npm pack` runs first. Undefined: it lets the package pass. */
  refusal(): string | undefined {
    const { scripts } = JSON.parse(readFileSync(join(this.path, 'package.json'), 'utf8'))
    const [, script] = /^node (\S+)$/.exec(scripts.prepack) ?? []
    assert.ok(script, 'prepack is one program')
    const { status, stderr } = spawnSync(process.execPath, [join(this.path, script)], { encoding: 'utf8' })
    return status === 0 ? undefined : stderr
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

test(
  'a package as it was built may be packed, and is not with JavaScript of other sources or with altered or stray addons',
  inCheckout,
  async () => {
    using checkout = await Checkout.open()
    checkout.compile()
    assert.equal(checkout.refusal(), undefined)

    const [target] = await load('targets', 'targets')
    assert.ok(target)
    writeFileSync(checkout.fileOf(target.file), 'altered')
    writeFileSync(join(checkout.path, 'dist/index.js'), '// altered')
    writeFileSync(join(checkout.path, 'dist/gone.js'), '')
    mkdirSync(join(checkout.path, 'prebuilds/linux-mips'))
    writeFileSync(join(checkout.path, 'prebuilds/linux-mips/os-mutex.node'), '')
    const refusal = checkout.refusal() ?? ''
    assert.ok(refusal.includes(`prebuilds/${target.file} is not the file that prebuilds/SHA256SUMS tells of`), refusal)
    assert.match(refusal, /dist.index\.js is missing or stale. Run: npm run build/)
    assert.match(refusal, /dist.gone\.js is of no source/)
    assert.match(refusal, /linux-mips.os-mutex\.node is none of the addons that are shipped/)
  },
)

test('a package is not packed with any one of its addons missing or altered', inCheckout, async () => {
  using checkout = await Checkout.open()
  for (const { file } of await load('targets', 'targets')) {
    const bytes = readFileSync(checkout.fileOf(file))
    writeFileSync(checkout.fileOf(file), Buffer.concat([bytes, Buffer.from('!')]))
    const altered = `prebuilds/${file} is not the file that prebuilds/SHA256SUMS tells of. Run: npm run prebuild:all`
    assert.equal(await checkout.problemsOfAddons(), altered)
    rmSync(checkout.fileOf(file))
    assert.equal(await checkout.problemsOfAddons(), `prebuilds/${file} is missing. Run: npm run prebuild:all`)
    writeFileSync(checkout.fileOf(file), bytes)
  }
  assert.equal(await checkout.problemsOfAddons(), '')
})

test('a package is not packed with addons of other sources than its own', inCheckout, async () => {
  using checkout = await Checkout.open()
  for (const source of [
    'native/addon.cc',
    'binding.gyp',
    'scripts/prebuild/linux.mjs',
    'scripts/prebuild/compile.mjs',
  ]) {
    const file = join(checkout.path, source)
    const text = readFileSync(file, 'utf8')
    writeFileSync(file, `${text}\n`)
    assert.match(await checkout.problemsOfAddons(), /^prebuilds\/ is stale: .* Run: npm run prebuild:all$/, source)
    writeFileSync(file, text)
    assert.equal(await checkout.problemsOfAddons(), '')
  }
  writeFileSync(join(checkout.path, 'native/one-more.h'), '')
  assert.match(await checkout.problemsOfAddons(), /stale/)
  rmSync(join(checkout.path, 'prebuilds/SHA256SUMS'))
  assert.match(await checkout.problemsOfAddons(), /SHA256SUMS is missing/)
})

test('prebuilt addons are made from the sources and flags that node-gyp uses', inCheckout, async () => {
  const readGyp = await load('gyp', 'readGyp')
  const parts = { linux: 'native/posix/os_linux.cc', mac: 'native/posix/os_darwin.cc', win: 'native/win32/mutex.cc' }
  for (const [os, part] of Object.entries(parts)) {
    const { sources, defines } = readGyp(join(root, 'binding.gyp'), os)
    for (const source of sources) assert.ok(existsSync(join(root, source)), source)
    for (const other of Object.values(parts)) assert.equal(sources.includes(other), other === part, `${other} on ${os}`)
    assert.ok(defines.includes('NAPI_VERSION=8'))
  }
  const folder = mkdtempSync(join(tmpdir(), 'os-mutex-gyp-'))
  const file = join(folder, 'binding.gyp')
  for (const said of ['"ldflags": ["-lm"]', '"conditions": [["target_arch==\'x64\'", {}]]']) {
    writeFileSync(file, `{ "targets": [{ ${said}, }] } # a comment`)
    assert.throws(() => readGyp(file, 'linux'), /does not know|can't be read/, 'nothing of it is passed over')
  }
  rmSync(folder, { recursive: true })
})

test("an addon of a system's own compiler is refused, and each reason told", {
  skip: process.platform === 'linux' ? inCheckout.skip : 'looks at an ELF file',
}, async (t) => {
  const own = join(root, 'build/Release/os_mutex.node')
  if (!existsSync(own)) return t.skip('there is none in build/')
  const [inspect, targets] = await Promise.all([load('inspect', 'inspect'), load('targets', 'targets')])
  const target = targets.find(({ file }) => file === `linux-${process.arch}/os-mutex.glibc.node`)
  assert.ok(target)
  const said = inspect(readFileSync(own), target).problems.join('\n')
  assert.match(said, /needs the library libstdc\+\+\.so\.6/)
  assert.match(said, /exports _ZN?/)
  assert.match(said, /is not stripped/)
  const other = targets.find(({ file, os }) => os === 'linux' && !file.startsWith(`linux-${process.arch}`))
  assert.ok(other)
  assert.match(inspect(readFileSync(own), other).problems.join('\n'), /is for \w+, not for \w+/)
})

test('each prebuilt addon needs and shows just what it may', inCheckout, async (t) => {
  const [inspect, targets] = await Promise.all([load('inspect', 'inspect'), load('targets', 'targets')])
  const built = targets.filter(({ file }) => existsSync(join(root, 'prebuilds', file)))
  if (built.length === 0) return t.skip('none is built yet: npm run prebuild:all')
  for (const target of built) {
    const bytes = readFileSync(join(root, 'prebuilds', target.file))
    assert.deepEqual(inspect(bytes, target).problems, [], target.file)

    /** What is said when a text of the file is another of the same length. */
    const whenAltered = (from: string, to: string) => {
      assert.ok(bytes.includes(from), `${target.file} has ${from}`)
      const altered = Buffer.from(bytes.toString('latin1').replaceAll(from, to), 'latin1')
      return inspect(altered, target).problems.join('\n')
    }
    const [library, other] = {
      linux: ['libc.so', 'libx.so'],
      win: ['KERNEL32.dll', 'VCRUNT32.dll'],
      mac: ['libSystem.B', 'libSystem.C'],
    }[target.os] as [string, string]
    assert.match(whenAltered(`${library}`, other), /needs the library /, target.file)
    const renamed = whenAltered('napi_register_module_v1', 'napi_register_module_v0')
    assert.match(renamed, /exports napi_register_module_v0/, target.file)
    assert.match(renamed, /does not export napi_register_module_v1/, target.file)
    if (target.os === 'mac') assert.match(renamed, /has a signature that is broken for arm64/)
    if (target.file.endsWith('.glibc.node')) assert.match(whenAltered('GLIBC_2.17', 'GLIBC_2.29'), /needs glibc 2\.29/)
    assert.match(
      inspect(bytes.subarray(0, 1000), target).problems.join('\n'),
      /can't be read as a library|does not export/,
    )
    assert.match(inspect(bytes, target, ['napi_register']).problems.join('\n'), /holds the path napi_register/)
  }
})
