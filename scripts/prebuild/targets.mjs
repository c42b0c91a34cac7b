// The files of prebuilds/, by the names under which node-gyp-build looks for them, and what each may need of the system it runs on.

export const entryPoints = ['napi_register_module_v1', 'node_api_module_get_api_version_v1']

/** Node 20 itself needs this one. */
export const highestGlibc = '2.28'

const glibc = ['libc.so.6', 'libpthread.so.0', 'libdl.so.2', 'libm.so.6']
// Parts of Windows itself. msvcrt.dll is the one that ADVAPI32 needs too, no redistributable of a compiler's.
const windows = [/^kernel32\.dll$/i, /^advapi32\.dll$/i, /^ntdll\.dll$/i, /^msvcrt\.dll$/i]

export const targets = [
  {
    file: 'linux-x64/os-mutex.glibc.node',
    os: 'linux',
    slices: [{ triple: 'x86_64-linux-gnu.2.17', cpu: 'x64' }],
    libraries: [...glibc, 'ld-linux-x86-64.so.2'],
  },
  {
    file: 'linux-x64/os-mutex.musl.node',
    os: 'linux',
    slices: [{ triple: 'x86_64-linux-musl', cpu: 'x64' }],
    libraries: ['libc.so'],
  },
  {
    file: 'linux-arm64/os-mutex.glibc.node',
    os: 'linux',
    slices: [{ triple: 'aarch64-linux-gnu.2.17', cpu: 'arm64' }],
    libraries: [...glibc, 'ld-linux-aarch64.so.1'],
  },
  {
    file: 'linux-arm64/os-mutex.musl.node',
    os: 'linux',
    slices: [{ triple: 'aarch64-linux-musl', cpu: 'arm64' }],
    libraries: ['libc.so'],
  },
  {
    file: 'win32-x64/os-mutex.node',
    os: 'win',
    slices: [{ triple: 'x86_64-windows-gnu', cpu: 'x64' }],
    libraries: windows,
  },
  {
    file: 'win32-arm64/os-mutex.node',
    os: 'win',
    slices: [{ triple: 'aarch64-windows-gnu', cpu: 'arm64' }],
    libraries: windows,
  },
  {
    file: 'darwin-x64+arm64/os-mutex.node',
    os: 'mac',
    slices: [
      { triple: 'x86_64-macos.11.0', cpu: 'x64' },
      { triple: 'aarch64-macos.11.0', cpu: 'arm64' },
    ],
    libraries: ['/usr/lib/libSystem.B.dylib'],
  },
]
