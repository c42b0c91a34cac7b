import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))

const addon = join(root, 'build/Release/os_mutex.node')
const onlyWhereBuilt = existsSync(addon)
  ? {}
  : { skip: 'this copy has no addon of its own build; `npm run test:pack` packs and tests the prebuilds' }

/** A copy of what would be published, with the addon of this machine as its only prebuild. */
class Publishable implements Disposable {
  readonly path = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-pack-')))
  readonly package = join(this.path, 'package')

  constructor({ alsoPacked = [] }: { alsoPacked?: readonly string[] } = {}) {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] }
    const files = [...manifest.files, ...alsoPacked]
    // Its scripts refuse to pack without the prebuilds of all platforms.
    this.write('package.json', JSON.stringify({ ...manifest, files, scripts: {} }))
    const copied = files.map((name) => (name === 'docs/*.md' ? 'docs' : name))
    for (const name of ['README.md', 'LICENSE', ...copied]) {
      if (name !== 'prebuilds') cpSync(join(root, name), join(this.package, name), { recursive: true })
    }
    const libc = process.platform !== 'linux' ? '' : existsSync('/etc/alpine-release') ? '.musl' : '.glibc'
    const folder = process.platform === 'darwin' ? 'darwin-x64+arm64' : `${process.platform}-${process.arch}`
    this.write(`prebuilds/${folder}/os-mutex${libc}.node`, readFileSync(addon))
  }

  write(name: string, content: string | Buffer): void {
    const file = join(this.package, name)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, content)
  }

  test(): { status: number | null; output: string } {
    const program = join(root, 'scripts/pack-test/pack-test.mjs')
    const where = ['--package', this.package, '--work', join(this.path, 'work'), '--host-only']
    // The dependencies of the checkout, so that no network is needed.
    const args = [program, ...where, '--dependencies-from', join(root, 'node_modules')]
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
    return { status, output: stdout + stderr }
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

test(
  'the packed package installs without a compiler, and is imported, required and type-checked in an empty project',
  onlyWhereBuilt,
  () => {
    using publishable = new Publishable()
    const { status, output } = publishable.test()
    assert.equal(status, 0, output)
    assert.equal(output.match(/^passed/gm)?.length, 3, output)
  },
)

test(
  'a file that no user needs, a missing one, and one that makes others compile the package are told',
  onlyWhereBuilt,
  () => {
    using publishable = new Publishable({ alsoPacked: ['binding.gyp'] })
    publishable.write('dist/mutex/addon.test.js', '')
    publishable.write('prebuilds/linux-x64/left-over.node', '')
    rmSync(join(publishable.package, 'CHANGELOG.md'))
    rmSync(join(publishable.package, 'docs/electron.md'))
    const { status, output } = publishable.test()
    assert.equal(status, 1, output)
    assert.match(output, /WRONG +missing: CHANGELOG\.md/)
    assert.match(output, /WRONG +missing: docs\/electron\.md/)
    assert.match(output, /WRONG +no user needs it: binding\.gyp/)
    assert.match(output, /WRONG +no user needs it: dist\/mutex\/addon\.test\.js/)
    assert.match(output, /WRONG +no user needs it: prebuilds\/linux-x64\/left-over\.node/)
  },
)
