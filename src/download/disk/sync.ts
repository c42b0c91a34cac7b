// Makes what was written durable, by a handle or by its descriptor: the permission model of Node has no fsync of a descriptor, and the
// handles of Yarn's Plug'n'Play have no sync().
import { fdatasync, fsync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { promisify } from 'node:util'
import { codeOf } from '../../mutex/caught.ts'

export function syncHandle(handle: FileHandle): Promise<void> {
  return byEither(() => handle.sync(), promisify(fsync), handle)
}

/** Without what only tells when it was. */
export function syncData(handle: FileHandle): Promise<void> {
  return byEither(() => handle.datasync(), promisify(fdatasync), handle)
}

async function byEither(
  ofHandle: () => Promise<void>,
  ofDescriptor: (descriptor: number) => Promise<void>,
  handle: FileHandle,
): Promise<void> {
  try {
    await ofHandle()
  } catch (error) {
    // What the system says has a code, and is no answer to try again.
    if (codeOf(error) !== undefined) throw error
    await ofDescriptor(handle.fd)
  }
}
