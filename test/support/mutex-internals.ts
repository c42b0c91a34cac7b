// Parts of the built package that users reach only through NamedMutex: how a name becomes a place, on either platform.
const internal = (file: string): Promise<unknown> =>
  import(new URL(`./mutex/${file}`, import.meta.resolve('os-mutex')).href)

type Names = typeof import('../../dist/mutex/mutex-name.js')
type Posix = typeof import('../../dist/mutex/posix-platform.js')
type Owners = typeof import('../../dist/mutex/describe-owner.js')
type Timeouts = typeof import('../../dist/mutex/timeout-error.js')
type Win32 = typeof import('../../dist/mutex/win32-platform.js')

export const { parseMutexName } = (await internal('mutex-name.js')) as Names
export const { posixPlatform } = (await internal('posix-platform.js')) as Posix
export const { locateInSession, win32Platform } = (await internal('win32-platform.js')) as Win32

export const { privateMount } = (await internal(
  'private-mount.js',
)) as typeof import('../../dist/mutex/private-mount.js')
export const { describeOwner } = (await internal('describe-owner.js')) as Owners
export const { describeHolder, timeoutError } = (await internal('timeout-error.js')) as Timeouts
