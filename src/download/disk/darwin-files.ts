// macOS: POSIX, with file systems that by default take names for the same that differ only in case or Unicode form.
import type { FilePlatform } from './file-platform.ts'
import { posixFiles } from './posix-files.ts'

export const darwinFiles: FilePlatform = {
  ...posixFiles,
  // On a case-sensitive volume two files may share a key, which costs time and not safety.
  pathKey: (realPath) => realPath.normalize('NFD').toUpperCase(),
}
