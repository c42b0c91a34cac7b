import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Clone, inClone, load } from './release-scripts.ts'

test(
  'a release has the address of its repository, and only links that its user can follow; the checkout stays as it was',
  inClone,
  async () => {
    using clone = await Clone.open({ remote: 'https://user:SECRET@github.com/owner/name.git' })
    const before = clone.read('package.json')
    const { status, stdout, stderr } = clone.release()
    assert.equal(status, 0, stderr)
    assert.match(stdout, /of https:\/\/github\.com\/owner\/name, with links to v\d/)
    assert.match(stdout, /does not have the tag/)
    assert.equal(clone.read('package.json'), before)
    assert.equal(clone.git('status', '--porcelain'), '')

    const { path, files } = clone.unpacked()
    const { private: isPrivate, ...manifest } = JSON.parse(before)
    assert.equal(isPrivate, true, 'or a tarball of plain `npm pack` could be published')
    assert.deepEqual(JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')), {
      ...manifest,
      homepage: 'https://github.com/owner/name#readme',
      bugs: { url: 'https://github.com/owner/name/issues' },
      repository: { type: 'git', url: 'git+https://github.com/owner/name.git' },
    })

    assert.deepEqual((await load('release/links', 'brokenLinks'))(path, files), [])
    const linksOf = await load('release/links', 'linksOf')
    const targets = (page: string) => linksOf(readFileSync(join(path, page), 'utf8')).map(({ target }) => target)
    const inReadme = targets('README.md')
    assert.deepEqual(
      inReadme.filter((target) => !/^(https:|#)/.test(target)),
      [],
      'the registry shows the README alone',
    )
    const at = `https://github.com/owner/name/blob/v${manifest.version}`
    assert.ok(inReadme.includes(`${at}/docs/electron.md`) && inReadme.includes(`${at}/bench/results/mutex.md`))
    assert.ok(targets('SECURITY.md').includes('prebuilds/SHA256SUMS'), 'what is in the package is opened there')
    assert.ok(targets('docs/electron.md').includes(`${at.replace('blob', 'tree')}/examples/electron`))
    const ours = [...files.filter((file) => file.endsWith('.md')).flatMap(targets)]
      .filter((target) => target.startsWith('https://github.com/owner/name/'))
      .map((target) => target.replace(/^.*?\/(blob|tree)\/[^/]+\//, '').replace(/#.*/, ''))
    for (const file of ours) assert.ok(existsSync(join(clone.path, file)), file)

    for (const file of files) assert.ok(!readFileSync(join(path, file)).includes('SECRET'), file)
    assert.doesNotMatch(stdout + stderr, /SECRET/)
  },
)

test(
  'in a workflow the address is that of the repository that runs it, as the provenance statement has it',
  inClone,
  async () => {
    using clone = await Clone.open({ remote: 'git@github.com:owner/name.git' })
    clone.git('tag', `v${JSON.parse(clone.read('package.json')).version}`)
    const { status, stdout, stderr } = clone.release([], {
      GITHUB_SERVER_URL: 'https://github.com',
      GITHUB_REPOSITORY: 'fork/name',
    })
    assert.equal(status, 0, stderr)
    assert.match(stdout, /of https:\/\/github\.com\/fork\/name/)
    assert.doesNotMatch(stdout, /does not have the tag/)
    const { path } = clone.unpacked()
    const { repository } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'))
    assert.equal(repository.url, 'git+https://github.com/fork/name.git')
  },
)

test(
  'no release is packed without an address, with uncommitted changes, or with a link that leads nowhere',
  inClone,
  async () => {
    using clone = await Clone.open()
    const refused = (...args: string[]) => {
      clone.write(clone.tarballName, 'an older one')
      const { status, stderr } = clone.release(args)
      assert.equal(status, 1)
      assert.ok(!existsSync(clone.tarball), 'or the older one might be published')
      return stderr
    }
    assert.match(refused(), /no remote "origin"/)

    const given = ['--repository', 'https://github.com/owner/name']
    clone.write('docs/new.md', '[gone](gone.md)\n')
    assert.match(refused(...given), /differ from the commit.*\n.*docs\/new\.md/)
    clone.commit()
    assert.match(refused(...given), /docs\/new\.md:1: gone\.md: no such file/)
  },
)

test('`npm pack` needs no address, and `npm publish` of the checkout is refused', inClone, async () => {
  using clone = await Clone.open()
  const npm = await load('pack-test/npm', 'npm')
  npm(['pack', '--ignore-scripts'], clone.path)
  assert.ok(existsSync(clone.tarball))
  // A dry run asks no registry before this.
  assert.throws(() => npm(['publish', '--dry-run'], clone.path), /Publish the tarball that npm run release:pack makes/)
})
