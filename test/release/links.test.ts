import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { filesOf, inClone, load, root } from './release-scripts.ts'

test('every link of every page leads to a file and a heading that are there', inClone, async () => {
  const brokenLinks = await load('release/links', 'brokenLinks')
  const linksOf = await load('release/links', 'linksOf')
  assert.deepEqual(brokenLinks(root, filesOf(root)), [])
  const pages = linksOf(readFileSync(join(root, 'README.md'), 'utf8')).map(({ target }) => target)
  assert.ok(pages.includes('docs/electron.md') && pages.includes('https://node-llama-cpp.withcat.ai'), 'they are found')
})

test('a page that a message names is in docs, and is named by docsPage', inClone, () => {
  const named = new Set<string>()
  for (const file of filesOf(root).filter((file) => /^src\/.*\.m?ts$/.test(file))) {
    const text = readFileSync(join(root, file), 'utf8')
    for (const [, page = ''] of text.matchAll(/docsPage\('([^']+)'\)/g)) named.add(page)
    // A comment may say where something is argued; those who read it have the sources.
    const inCode = text.replace(/^\s*(\/\/|\/?\*).*$/gm, '').replace(/https?:[^\s'"`]+/g, '')
    assert.doesNotMatch(inCode, /\bdocs\/[\w-]+\.md/, `${file} names a page by hand`)
  }
  assert.ok(named.has('electron.md'))
  for (const page of named) assert.ok(existsSync(join(root, 'docs', page)), page)
})

/** What is broken in a folder of these files. */
async function brokenIn(files: Record<string, string>): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'os-mutex-links-'))
  try {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), text)
    }
    return (await load('release/links', 'brokenLinks'))(folder, Object.keys(files))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

test(
  'a link to no file, to a file in other letters, to no heading and out of the folder is broken, in each form',
  inClone,
  async () => {
    const page = `# Page
[a](gone.md), [\`code\`](docs/Other.md), ![an image](gone.svg "title"), [over
two lines](docs/other.md#gone), [out](../README.md), [here](#nowhere)
[![badge](gone-badge.svg)](gone-page.md) <a href="gone.html">x</a> [in brackets](<gone too.md>) [b](src/a.ts#gone)

[label]: gone-label.md
`
    const files = { 'README.md': page, 'docs/other.md': '# Other\n', 'src/a.ts': '' }
    const links = (await brokenIn(files)).map((line) => line.split(': ').slice(0, 2).join(' '))
    assert.deepEqual(links, [
      'README.md:2 gone.md',
      'README.md:2 docs/Other.md',
      'README.md:2 gone.svg',
      'README.md:3 docs/other.md#gone',
      'README.md:3 ../README.md',
      'README.md:3 #nowhere',
      'README.md:4 gone-badge.svg',
      'README.md:4 gone-page.md',
      'README.md:4 gone.html',
      'README.md:4 gone too.md',
      'README.md:4 src/a.ts#gone',
      'README.md:6 gone-label.md',
    ])
  },
)

test('links to what is there, and what only looks like a link, are not broken', inClone, async () => {
  const page = `# Page, \`code\` & [more](docs/other.md)
## Twice
## Twice
[a](docs/other.md), [b](docs), [c](docs/), [d](docs/other.md#an-übung), [e](#twice-1), [f](#page-code--more), [g](src/a.ts#L1-L3)
[h](/src/a.ts), [i](https://example.org/gone.md), [j](mailto:a@example.org), [k](docs/a%20b.md), ![l](./pic_(1).svg)
<a id="mine"></a>[m](#mine), \`[n](gone.md)\`, \`\`[o](gone.md)\`\`

\`\`\`js
// [p](gone.md)
\`\`\`
  ~~~
  [q](gone.md)
  ~~~
`
  const other = { 'docs/other.md': '[back](../README.md#twice)\n\n### An Übung\n', 'docs/a b.md': '' }
  assert.deepEqual(await brokenIn({ 'README.md': page, 'src/a.ts': '', 'pic_(1).svg': '', ...other }), [])
})
