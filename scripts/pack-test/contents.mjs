// What may be in the packed package. A file that no user needs, or one that is missing, fails the test.
import { readdirSync } from 'node:fs'

/** One for each platform that is promised; node-gyp-build finds them by these names. */
export const prebuilds = [
  'prebuilds/darwin-x64+arm64/os-mutex.node',
  'prebuilds/linux-arm64/os-mutex.glibc.node',
  'prebuilds/linux-arm64/os-mutex.musl.node',
  'prebuilds/linux-x64/os-mutex.glibc.node',
  'prebuilds/linux-x64/os-mutex.musl.node',
  'prebuilds/win32-arm64/os-mutex.node',
  'prebuilds/win32-x64/os-mutex.node',
]

const entries = ['index', 'llama'].flatMap((name) =>
  ['js', 'd.ts', 'mjs', 'd.mts'].map((ending) => `dist/${name}.${ending}`),
)
const required = ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'SECURITY.md']

/** Messages name them, so all of them are there. The models in docs/protocol are for those who work on the locks. */
const pages = readdirSync(new URL('../../docs', import.meta.url))
  .filter((name) => name.endsWith('.md'))
  .map((name) => `docs/${name}`)

// No binding.gyp: @electron/rebuild, which electron-builder and Forge run unasked, compiles every package that has one, and so
// would ask each user for a compiler. Whoever has to build does it in a clone.
const allowed = [
  ...required,
  ...pages,
  // The binaries can't be reviewed; these say how each was made and how to compare.
  'prebuilds/README.md',
  'prebuilds/SHA256SUMS',
  'dist/package.json',
  /^dist\/(index|llama)\.(js|d\.ts|mjs|d\.mts)$/,
  /^dist\/in-package\.(mjs|d\.mts)$/,
  /^dist\/(mutex|llama(\/wait)?|cli|download(\/(published|partial|http|source|gguf|disk))?)\/[a-z0-9-]+\.(js|d\.ts)$/,
]

const megabyte = 1_000_000
export const sizeLimit = 1.5 * megabyte

/**
 * @param {{ size: number, files: { path: string }[] }} packed what `npm pack --json` says
 * @param {{ hostOnly: boolean }} options `hostOnly`: one prebuild is enough
 * @returns {string[]} what is wrong
 */
export function wrongContents({ size, files }, { hostOnly }) {
  const paths = files.map((file) => file.path)
  const isAllowed = (path) =>
    prebuilds.includes(path) || allowed.some((one) => (typeof one === 'string' ? one === path : one.test(path)))
  const found = prebuilds.filter((path) => paths.includes(path))
  const missing = [...required, ...pages, 'dist/package.json', ...entries].filter((path) => !paths.includes(path))
  if (!hostOnly) missing.push(...prebuilds.filter((path) => !paths.includes(path)))
  else if (found.length === 0) missing.push('a prebuild')
  const wrongs = [
    ...missing.map((path) => `missing: ${path}`),
    ...paths.filter((path) => !isAllowed(path)).map((path) => `no user needs it: ${path}`),
  ]
  if (size >= sizeLimit) wrongs.push(`packed size ${size} bytes, limit ${sizeLimit}`)
  return wrongs
}
