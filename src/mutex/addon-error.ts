// The message of `ERR_MUTEX_ADDON_NOT_FOUND`: what was looked for, why each file failed, and what to do about it.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from './caught.ts'
import { docsPage } from './docs.ts'
import { MutexError } from './errors.ts'

export interface Attempt {
  /** Undefined: node-gyp-build found no file, or could not be loaded itself. */
  readonly file: string | undefined
  readonly error: unknown
}

const packageAgain = 'install the package on this system, not copied or mounted from another one'

// What the loaders of Linux (glibc, musl), macOS and Windows report, and what Node itself refuses, each with a remedy.
const remedies: readonly (readonly [said: RegExp, remedy: string])[] = [
  [
    /ERR_DLOPEN_DISABLED|Cannot load native addon/,
    'native addons are switched off here: drop --no-addons, or add --allow-addons',
  ],
  [
    /ERR_ACCESS_DENIED|NotCapable/,
    "this process may not read what it needs: the package's folder (Node: --allow-fs-read=<folder> and --allow-addons; Deno: " +
      '--allow-read, --allow-ffi and --allow-env)',
  ],
  [/version `GLIBC[^']*' not found/, "this system's C library is older than glibc 2.28: build the addon here"],
  [/libgcc_s/, 'install libgcc (Debian: apt-get install libgcc-s1; Alpine: apk add libgcc)'],
  [
    /invalid ELF header|wrong ELF class|Exec format error|not a mach-o|incompatible architecture|wrong architecture|not a valid Win32 application|Bad EXE format/i,
    `the file is damaged or for another system: ${packageAgain}`,
  ],
  // For a file built for another processor, glibc reports that the file does not exist.
  [
    /os[-_]mutex[^/]*\.node: cannot open shared object file: No such/,
    `the file is for another system: ${packageAgain}`,
  ],
  [/file too short|truncated|cut off/i, `the file is damaged: ${packageAgain}`],
  [
    /libc\.musl|ld-musl|ld-linux|Error relocating|libc\.so(\.6)?: (cannot open|No such|invalid ELF)/,
    `the file is for another C library (glibc, musl): ${packageAgain}`,
  ],
  [
    /permission denied|operation not permitted|failed to map segment/i,
    'the file may not be read or run as code: look at its mode, and whether its file system is mounted noexec',
  ],
  [
    /code signature|library validation|different Team ID/i,
    `macOS refuses its signature: sign the .node file together with the app (see ${docsPage('electron.md')})`,
  ],
  [/Could not dynamically|not self-register|node-gyp-build/, 'install the package again, with its dependencies'],
]

/** No addon could be loaded. `cause` is the first file's failure. */
export function addonError(root: string, attempts: readonly Attempt[]): MutexError {
  const failures = attempts.map(({ file, error }) => `${file ?? 'node-gyp-build'}: ${firstLine(error)}`)
  const lines = [
    `The native part of os-mutex could not be loaded for ${describeRuntime()}.`,
    'Looked for:',
    ...[...missingPlaces(root, attempts), ...failures].map((line) => `  ${line}`),
    'What may help:',
    ...[...advice(root, attempts), buildAdvice(root)].map((line) => `  - ${line}`),
  ]
  return new MutexError('ERR_MUTEX_ADDON_NOT_FOUND', lines.join('\n'), { cause: firstFailure(attempts) })
}

/** Of a file, if there was one: node-gyp-build only chooses. */
function firstFailure(attempts: readonly Attempt[]): unknown {
  return (attempts.find(({ file }) => file !== undefined) ?? attempts[0])?.error
}

function* missingPlaces(root: string, attempts: readonly Attempt[]): Generator<string> {
  const build = join(root, 'build', 'Release')
  if (!attempts.some(({ file }) => file?.startsWith(build))) yield `${build}: no addon there`
  const prebuilds = join(root, 'prebuilds')
  const own = `${process.platform}-${process.arch}`
  if (attempts.some(({ file }) => file?.startsWith(prebuilds))) return
  const folders = foldersIn(prebuilds)
  yield `${join(prebuilds, own)}: no addon there; ${prebuilds} has ${folders.length > 0 ? folders.join(', ') : 'no folders'}`
}

function* advice(root: string, attempts: readonly Attempt[]): Generator<string> {
  if (/[\\/][^\\/]+\.asar[\\/]/.test(root)) {
    yield 'the package is in an asar archive, from which a library can\'t be loaded: put "**/*.node" or "**/node_modules/os-mutex/**" into ' +
      `asarUnpack (electron-builder) or asar.unpack (Forge), see ${docsPage('electron.md')}`
  }
  const folders = foldersIn(join(root, 'prebuilds'))
  if (folders.length === 0)
    yield 'prebuilds/ is empty or was left out: install the package from the registry, with all of its files'
  else if (!attempts.some(({ file }) => file?.includes('prebuilds'))) {
    yield `if only the folders of another system are here, ${packageAgain}`
  }
  const said = attempts
    .map(({ error }) => `${(error as { code?: unknown } | undefined)?.code} ${messageOf(error)}`)
    .join('\n')
  for (const [pattern, remedy] of remedies) if (pattern.test(said)) yield remedy
}

function buildAdvice(root: string): string {
  const tools =
    process.platform === 'win32' ? 'Python and Visual Studio Build Tools' : 'Python, make and a C++ compiler'
  const { name, version, repository } = packageJsonOf(root) ?? {}
  if (existsSync(join(root, 'binding.gyp'))) return `to build it (needs ${tools}), run "npm run build" in ${root}`
  const address = repository?.url?.replace(/^git\+/, '') ?? `the repository of ${name}`
  return (
    `to build it (needs ${tools}), clone ${address} at v${version}, run "npm run build" there, and copy its ` +
    `build/Release/os_mutex.node into ${join(root, 'build', 'Release')}`
  )
}

/** `linux-x64 with glibc 2.36, Node 20.20.2 in Electron 30.0.0` */
function describeRuntime(): string {
  const { bun, deno, electron, node } = process.versions as Record<string, string | undefined>
  const host = bun
    ? `Bun ${bun}`
    : deno
      ? `Deno ${deno}`
      : electron
        ? `Node ${node} in Electron ${electron}`
        : `Node ${node}`
  return `${process.platform}-${process.arch}${process.platform === 'linux' ? describeLibc() : ''}, ${host}`
}

// A report takes milliseconds, so it is made for this message only.
function describeLibc(): string {
  const report = processReport()
  if (report === undefined) return ''
  const glibc = report.header?.glibcVersionRuntime
  if (glibc !== undefined) return ` with glibc ${glibc}`
  return report.sharedObjects?.some((file) => /libc\.musl-|ld-musl-/.test(file)) === true ? ' with musl' : ''
}

/** `undefined` where it may not be made: Deno wants --allow-sys for it. */
function processReport(): { header?: { glibcVersionRuntime?: string }; sharedObjects?: string[] } | undefined {
  const reporter = process.report as (NodeJS.ProcessReport & { excludeNetwork?: boolean }) | undefined
  if (reporter === undefined) return undefined
  const { excludeNetwork } = reporter
  reporter.excludeNetwork = true // it would look up names of network peers
  try {
    return reporter.getReport()
  } catch {
    return undefined
  } finally {
    reporter.excludeNetwork = excludeNetwork ?? false
  }
}

function firstLine(error: unknown): string {
  return messageOf(error).trim().split('\n', 1)[0] ?? ''
}

function foldersIn(directory: string): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name)
      .sort()
  } catch {
    return []
  }
}

interface PackageJson {
  readonly name?: string
  readonly version?: string
  /** Only in a released package. */
  readonly repository?: { readonly url?: string }
}

/** Undefined if there is none or it can't be read, as in a bundle. */
export function packageJsonOf(root: string): PackageJson | undefined {
  try {
    return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  } catch {
    return undefined
  }
}
