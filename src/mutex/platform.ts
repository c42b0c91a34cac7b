// The platform that this process runs on.
import type { MutexPlatform } from './mutex-platform.ts'
import { posixPlatform } from './posix-platform.ts'
import { win32Platform } from './win32-platform.ts'

export const platform: MutexPlatform = process.platform === 'win32' ? win32Platform : posixPlatform
