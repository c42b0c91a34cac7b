// The program waits.cc, which waits for flocks by the addon's own sources, for each kind of wait that can be had here.
import { execFile, execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = dirname(dirname(fileURLToPath(import.meta.resolve('os-mutex'))))
const support = join(root, 'test/support/endable-flock')
const posix = join(root, 'native/posix')

/** `darwin` on Linux: macOS's own source, with macos/kqueue.cc in place of its kernel. */
export type Wait = 'linux' | 'darwin'

export const kinds: readonly Wait[] = process.platform === 'darwin' ? ['darwin'] : ['linux', 'darwin']

/** Options of a test that compiles. */
export const ifCompilable: { readonly skip?: string } =
  process.platform === 'win32'
    ? { skip: 'POSIX only' }
    : existsSync(posix)
      ? {}
      : { skip: 'this copy of the package has no sources' }

/** One of the two is empty: which one, says the C library. */
const cancellable = ['cancellable_flock_linux', 'cancellable_flock_musl_x64']

const compiler = process.env.CXX ?? (process.platform === 'darwin' ? 'c++' : 'g++')
const flags = ['-O1', '-Wall', '-Wextra', '-Werror', '-pthread', '-D_GNU_SOURCE']
const cxxFlags = ['-std=c++17', '-fno-exceptions', '-fasynchronous-unwind-tables', '-I', join(posix, 'include')]

function compile(args: readonly string[], folder: string, by = compiler): void {
  execFileSync(by, [...flags, ...args], { cwd: folder, stdio: ['ignore', 'inherit', 'inherit'] })
}

/** The programs of all kinds, by what they have in common. */
export function compileWaits(folder: string): Readonly<Record<Wait, string>> {
  const { platform } = process
  const own = ['flock_waiter', 'lock_file', `os_${platform}`, `sync_${platform}`]
  const common = [
    join(support, 'waits.cc'),
    ...own.map((source) => join(posix, `${source}.cc`)),
    join(posix, '../owner_record.cc'),
  ]
  compile([...cxxFlags, '-c', ...common], folder)
  const objects = common.map((source) => basename(source).replace(/cc$/, 'o'))
  const programOf = (kind: Wait) => join(folder, `waits-${kind}`)
  for (const kind of kinds) {
    const stand = kind === platform ? [] : ['-I', join(support, 'macos'), join(support, 'macos/kqueue.cc')]
    const sources = [`endable_flock_${kind}`, ...(kind === 'linux' ? cancellable : [])]
    const paths = sources.map((source) => join(posix, `${source}.cc`))
    // As in Bun, nothing in this program needs libgcc_s.so.1 before a thread is cancelled.
    const libraries = kind === 'linux' ? ['-static-libgcc', '-static-libstdc++', '-ldl'] : []
    compile([...cxxFlags, '-o', programOf(kind), ...objects, ...paths, ...stand, ...libraries], folder)
  }
  return { linux: programOf('linux'), darwin: programOf('darwin') }
}

/** A library for LD_PRELOAD: whoever asks for libgcc_s.so.1 is told that it is not there. */
export function compileWithoutUnwinder(folder: string): string {
  const output = join(folder, 'without-unwinder.so')
  compile(['-shared', '-fPIC', '-o', output, join(support, 'without_unwinder.cc'), '-ldl'], folder)
  return output
}

/** A library for LD_PRELOAD: a file system that is poor below the folders that environment variables name. */
export function compilePoorDisk(folder: string): string {
  const output = join(folder, 'poor-disk.so')
  compile(['-std=c++17', '-shared', '-fPIC', '-o', output, join(support, 'poor_disk.cc'), '-ldl'], folder)
  return output
}

/** The program musl_ends.cc, by the compiler of a system that has musl, else by musl-gcc. */
export function compileMuslEnds(folder: string): string {
  const output = join(folder, 'musl-ends')
  const sources = [join(support, 'musl_ends.cc'), ...cancellable.map((source) => join(posix, `${source}.cc`))]
  const cxx = ['-x', 'c++', '-std=c++17', '-fno-exceptions', '-fno-rtti', '-fasynchronous-unwind-tables']
  try {
    compile([...cxx, ...sources, '-o', output], folder, isGlibc() ? 'musl-gcc' : compiler)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    throw new Error('musl-gcc is needed. On Debian or Ubuntu: apt-get install musl-tools', { cause: error })
  }
  return output
}

/** Whether this process runs on glibc. */
export function isGlibc(): boolean {
  const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } }
  return report.header?.glibcVersionRuntime !== undefined
}

/** What the scenario prints. Rejects with what went wrong. */
export async function runScenario(program: string, scenario: string, file: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(program, [scenario, file], { timeout: 150_000 })
    return stdout.trim()
  } catch (error) {
    const { stdout, signal, code } = error as { stdout?: string; signal?: string; code?: number }
    throw new Error(`${scenario}: ${stdout?.trim() || `ended by ${signal ?? code}`}`, { cause: error })
  }
}
