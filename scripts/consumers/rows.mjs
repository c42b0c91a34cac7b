// Who imports the package, how, and what must come of it.
//
// A row builds and runs a project of its own in the set's folder. It is as it should be when the last command prints `done`; a row with
// `tells`, when what was done wrong is answered by these words. `on` is the Node that it runs on; by default the one at hand.
import { bundlers } from './bundlers.mjs'
import { installers } from './installers.mjs'
import { runtimes } from './runtimes.mjs'
import { testRunners } from './test-runners.mjs'
import { typeChecks } from './type-checks.mjs'

/**
 * @typedef {object} Row
 * @property {string} consumer
 * @property {string} how
 * @property {string} [version] a package of the set, whose version is meant, or the version itself
 * @property {boolean} [quick] it is tried in every run
 * @property {'quick' | 'whole'} [set] whose tools it uses; by default the whole one, unless only the quick rows are tried
 * @property {string} [on] one of scripts/platforms/runtimes.mjs
 * @property {Record<string, string>} [files]
 * @property {string[]} [links] packages of the checkout that the project has in its node_modules
 * @property {boolean} [alone] nothing is installed but by the project itself
 * @property {(place: Place) => string[][]} commands
 * @property {RegExp} [tells]
 *
 * @typedef {object} Place
 * @property {string} node the program
 * @property {(file: string) => string} tool the path of a file in the set's node_modules
 * @property {string} project
 * @property {string} tarball
 */

/** @type {Row[]} */
export const rows = [...runtimes, ...testRunners, ...typeChecks, ...bundlers, ...installers]
