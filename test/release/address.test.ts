import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { inClone, load } from './release-scripts.ts'

const parseAddress = (text: string, server?: string) =>
  load('release/address', 'parseAddress').then((parse) => parse(text, 'the remote "origin"', server))

test(
  'every form that git and npm have for an address leads to the same pages, without what was secret in it',
  inClone,
  async () => {
    const forms = [
      'https://github.com/owner/name.js',
      'https://github.com/owner/name.js.git',
      'https://github.com/owner/name.js/',
      'https://github.com:443/owner/name.js.git/',
      'http://github.com/owner/name.js',
      'HTTPS://GitHub.com/owner/name.js',
      'git+https://github.com/owner/name.js.git',
      'git://github.com/owner/name.js.git',
      'git@github.com:owner/name.js.git',
      'github.com:owner/name.js',
      'org-42@github.com:owner/name.js.git',
      'ssh://git@github.com/owner/name.js.git',
      'ssh://git@github.com:22/owner/name.js',
      'git+ssh://git@github.com/owner/name.js.git',
      'git+ssh://git@github.com:owner/name.js.git',
      'ssh://git@ssh.github.com:443/owner/name.js.git',
      'https://TOKEN@github.com/owner/name.js.git',
      'https://user:TOKEN@github.com/owner/name.js.git',
      'https://x-access-token:TO@KEN@github.com/owner/name.js',
      'https://github.com/owner/name.js.git?token=TOKEN#TOKEN',
    ]
    for (const form of forms) {
      const address = await parseAddress(form)
      assert.deepEqual(
        { web: address.web, ...address.fields },
        {
          web: 'https://github.com/owner/name.js',
          homepage: 'https://github.com/owner/name.js#readme',
          bugs: { url: 'https://github.com/owner/name.js/issues' },
          repository: { type: 'git', url: 'git+https://github.com/owner/name.js.git' },
        },
        form,
      )
    }
  },
)

test('what is no repository on the web is refused, and no message repeats it', inClone, async () => {
  const refused = [
    '/srv/git/TOKEN/name.git',
    '../TOKEN/name',
    'C:\\TOKEN\\name',
    'file:///srv/TOKEN/name.git',
    'git@TOKEN:owner/name.git', // an alias of ssh
    'https://user:TO/KEN@github.com/owner/name.git',
    'https://github.com/TOKEN',
    'https://github.com/owner/name/TOKEN',
    'https://github.com/owner/../TOKEN',
    'https://github.com/owner/na me TOKEN',
    'https://github.com.TOKEN.example/owner/name',
    'TOKEN',
    '',
  ]
  for (const text of refused) {
    await assert.rejects(parseAddress(text), (error: Error) => {
      assert.match(error.message, /the remote "origin"/, text)
      assert.doesNotMatch(error.message, /TOKEN|TO.KEN/)
      return true
    })
  }
})

test('each host has its own pages, and a server of GitHub Enterprise those of GitHub', inClone, async () => {
  const pages = async (text: string, server?: string) => {
    const { at } = await parseAddress(text, server)
    return [at('file', 'v1.0.0', 'docs/a b.md'), at('folder', 'v1.0.0', 'docs'), at('raw', 'v1.0.0', 'a.svg')]
  }
  assert.deepEqual(await pages('git@github.com:o/n.git'), [
    'https://github.com/o/n/blob/v1.0.0/docs/a%20b.md',
    'https://github.com/o/n/tree/v1.0.0/docs',
    'https://github.com/o/n/raw/v1.0.0/a.svg',
  ])
  assert.deepEqual(await pages('https://git.example.org/o/n', 'https://git.example.org'), [
    'https://git.example.org/o/n/blob/v1.0.0/docs/a%20b.md',
    'https://git.example.org/o/n/tree/v1.0.0/docs',
    'https://git.example.org/o/n/raw/v1.0.0/a.svg',
  ])
  assert.deepEqual(await pages('git@gitlab.com:group/team/n.git'), [
    'https://gitlab.com/group/team/n/-/blob/v1.0.0/docs/a%20b.md',
    'https://gitlab.com/group/team/n/-/tree/v1.0.0/docs',
    'https://gitlab.com/group/team/n/-/raw/v1.0.0/a.svg',
  ])
  assert.deepEqual(await pages('git@codeberg.org:o/n.git'), [
    'https://codeberg.org/o/n/src/tag/v1.0.0/docs/a%20b.md',
    'https://codeberg.org/o/n/src/tag/v1.0.0/docs',
    'https://codeberg.org/o/n/raw/tag/v1.0.0/a.svg',
  ])
})

test('an address that is given comes before the workflow, and the workflow before the remote', inClone, async () => {
  const findAddress = await load('release/address', 'findAddress')
  const root = mkdtempSync(join(tmpdir(), 'os-mutex-address-'))
  try {
    spawnSync('git', ['init', '--quiet'], { cwd: root })
    const workflow = { ...process.env, GITHUB_SERVER_URL: 'https://github.com', GITHUB_REPOSITORY: 'fork/name' }
    const { GITHUB_REPOSITORY: _, GITHUB_SERVER_URL: __, ...alone } = workflow
    assert.throws(() => findAddress({ root, env: alone }), /no remote "origin".*git remote add origin.*--repository/)
    spawnSync('git', ['remote', 'add', 'origin', 'git@github.com:remote/name.git'], { cwd: root })
    assert.equal(findAddress({ root, env: alone }).web, 'https://github.com/remote/name')
    assert.equal(findAddress({ root, env: workflow }).web, 'https://github.com/fork/name')
    const given = 'https://gitlab.com/given/name'
    assert.equal(findAddress({ root, given, env: workflow }).web, given)
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
})
