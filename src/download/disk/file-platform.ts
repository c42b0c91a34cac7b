// What the parts that know one operating system (posix-files, darwin-files, win32-files) offer to the rest.
import type { FileHandle } from 'node:fs/promises'

export interface FilePlatform {
  /** One text for all names that the system takes for the same file. `realPath` has no links in it. */
  pathKey(realPath: string): string
  /** Renames a file, in place of one that may be there. Waits a while for others to let go of the files where they can hold it up. */
  replace(from: string, to: string, signal: AbortSignal | undefined): Promise<void>
  /** Whether `error`, of `replace`, may mean that another process uses one of the files. */
  isInUse(error: unknown): boolean
  /** Makes the bytes of a file durable that is open for reading as `handle`. */
  syncContent(handle: FileHandle, path: string): Promise<void>
  /** Makes the names in a folder durable: a rename is not, until its folder is synced (fsync(2)). */
  syncFolder(folder: string): Promise<void>
}
