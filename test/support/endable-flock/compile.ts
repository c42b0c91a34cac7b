// The program waits.cc, which waits for flocks by the addon's own sources, for each kind of wait that can be had here.
import { execFile, execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
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

const compiler = process.env.CXX ?? (process.platform === 'darwin' ? 'c++' : 'g++')

function compile(output: string, args: readonly string[]): void {
  const common = ['-O1', '-Wall', '-Wextra', '-Werror', '-pthread', '-D_GNU_SOURCE', '-o', output]
  execFileSync(compiler, [...common, ...args], { cwd: support, stdio: ['ignore', 'inherit', 'inherit'] })
}

export function compileWaits(kind: Wait, folder: string): string {
  const output = join(folder, `waits-${kind}`)
  const isStandIn = kind !== process.platform
  const { platform } = process
  const own = [
    `endable_flock_${kind}.cc`,
    'flock_waiter.cc',
    'lock_file.cc',
    `os_${platform}.cc`,
    `sync_${platform}.cc`,
  ]
  const sources = [...own, '../owner_record.cc']
  compile(output, [
    ...['-std=c++17', '-fno-exceptions', '-fasynchronous-unwind-tables', 'waits.cc'],
    ...['-I', join(posix, 'include'), ...sources.map((source) => join(posix, source))],
    ...(isStandIn ? ['-I', 'macos', 'macos/kqueue.cc'] : []),
    // As in Bun, nothing in this program needs libgcc_s.so.1 before a thread is cancelled.
    ...(kind === 'linux' ? ['-static-libgcc', '-static-libstdc++', '-ldl'] : []),
  ])
  return output
}

/** A library for LD_PRELOAD: whoever asks for libgcc_s.so.1 is told that it is not there. */
export function compileWithoutUnwinder(folder: string): string {
  const output = join(folder, 'without-unwinder.so')
  compile(output, ['-shared', '-fPIC', 'without_unwinder.cc', '-ldl'])
  return output
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
