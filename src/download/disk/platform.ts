// The platform that this process runs on.
import { darwinFiles } from './darwin-files.ts'
import type { FilePlatform } from './file-platform.ts'
import { posixFiles } from './posix-files.ts'
import { win32Files } from './win32-files.ts'

export const filePlatform: FilePlatform =
  process.platform === 'win32' ? win32Files : process.platform === 'darwin' ? darwinFiles : posixFiles
