// The first import of every entry for `import`: what can go wrong at the start goes wrong here, and not in the CommonJS modules that
// follow.
//
// - In a bundle of ES modules the first `require()` of all fails, with a message that helps nobody.
// - Where a CommonJS module throws that an ES module imports, Node 20 ends the process by an unhandled rejection, though the caller of
//   `import()` has caught the error. From this module it reaches the caller only.
//
// createRequire() is not imported by its name, or webpack would read its argument.
import nodeModule from 'node:module'
import { bundledError } from './mutex/bundled.ts'

const here: unknown = import.meta.url
if (typeof here !== 'string' || !here.endsWith('/in-package.mjs')) throw bundledError(String(here))
nodeModule.createRequire(here)('./mutex/addon.js')
