// The lock of one file, as the built package has it inside.
const internal = (file: string): Promise<unknown> =>
  import(new URL(`./mutex/${file}`, import.meta.resolve('os-mutex')).href)

export const { holdFile, isLockMandatory, isOneKernel } = (await internal(
  'file-hold.js',
)) as typeof import('../../dist/mutex/file-hold.js')
export const { mountAbove } = (await internal('mounts.js')) as typeof import('../../dist/mutex/mounts.js')
