// Imports nothing of Node's: a bundle of ES modules, in which `require('node:fs')` fails, must still come as far as this message.
import { docsPage } from './docs.ts'
import { MutexError } from './errors.ts'

/** The package's code was bundled into another program's file, from where the addon can't be found. */
export function bundledError(file: string): MutexError {
  return new MutexError(
    'ERR_MUTEX_ADDON_NOT_FOUND',
    `os-mutex runs from ${file}, outside its package, so its native part can't be found. A bundler has included its code: ` +
      "declare 'os-mutex' external (esbuild: --external:os-mutex; webpack: externals; Vite and Rollup: external; Next: " +
      'serverExternalPackages) and ship node_modules/os-mutex, node_modules/node-gyp-build and node_modules/undici with the program. ' +
      `See ${docsPage('bundlers.md')}.`,
  )
}
