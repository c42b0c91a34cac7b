// The TypeScript compiler, and the linters of a package's types and entries.
import { root } from '../setup.mjs'
import { typed } from './use.mjs'

const resolutions = [
  { module: 'commonjs', moduleResolution: 'node10', ending: 'ts' },
  { module: 'node16', moduleResolution: 'node16', ending: 'cts' },
  { module: 'node16', moduleResolution: 'node16', ending: 'mts' },
  { module: 'nodenext', moduleResolution: 'nodenext', ending: 'cts' },
  { module: 'nodenext', moduleResolution: 'nodenext', ending: 'mts' },
  { module: 'esnext', moduleResolution: 'bundler', ending: 'ts' },
]
const compilers = [
  { name: 'typescript-5.0' },
  { name: 'typescript-5.4' },
  { name: 'typescript', quick: true },
  { name: 'typescript-7.0', without: ['node10'] },
]

// Both ways in which it may be installed; without esModuleInterop, and with the types of the libraries checked.
const compilerOptions = {
  target: 'es2022',
  lib: ['es2022'],
  types: ['node'],
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: false,
  noEmit: true,
}

/**
 * Fails for what is wrong in our files and in the user's. What is wrong in other packages' types, as in node-llama-cpp's own, is nobody's
 * business here.
 */
const judge = `
const { spawnSync } = require('node:child_process')
const [tsc, config] = process.argv.slice(2)
const { stdout, status } = spawnSync(process.execPath, [tsc, '--pretty', 'false', '-p', config], { encoding: 'utf8' })
const errors = stdout.split('\\n').filter((line) => /error TS/.test(line))
const ours = errors.filter((line) => !/^[^(]*node_modules\\/(?!os-mutex\\/)/.test(line))
if (ours.length > 0 || (status !== 0 && errors.length === 0)) throw new Error(ours.join('\\n') || stdout)
console.log('done')
`

const compilations = [false, true].flatMap((hasLlama) =>
  compilers.flatMap(({ name, quick = false, without = [] }) =>
    resolutions
      .filter(({ moduleResolution }) => !without.includes(moduleResolution))
      .map(({ module, moduleResolution, ending }) => ({
        consumer: 'tsc',
        how: `${moduleResolution}, .${ending}, ${hasLlama ? 'with' : 'without'} node-llama-cpp`,
        version: name,
        quick: quick && !hasLlama,
        files: {
          [`main.${ending}`]: typed({ hasLlama }),
          'tsconfig.json': JSON.stringify({
            compilerOptions: { ...compilerOptions, module, moduleResolution },
            files: [`main.${ending}`],
          }),
          'judge.cjs': judge,
        },
        links: hasLlama ? ['node-llama-cpp'] : [],
        commands: ({ node, tool }) => [[node, 'judge.cjs', tool(`${name}/bin/tsc`), 'tsconfig.json']],
      })),
  ),
)

const linters = [
  {
    consumer: 'publint',
    how: '--strict',
    version: 'publint',
    commands: ({ node, tool, tarball }) => [[node, tool('publint/src/cli.js'), '--strict', tarball]],
  },
  {
    consumer: 'Are the types wrong?',
    how: 'all resolutions, no exception',
    version: '@arethetypeswrong/cli',
    commands: ({ node, tool, tarball }) => [[node, tool('@arethetypeswrong/cli/dist/index.js'), tarball]],
  },
  {
    consumer: 'knip',
    how: 'nothing in the repository is unused',
    version: 'knip',
    commands: ({ node, tool }) => [[node, tool('knip/bin/knip.js'), '--no-progress', '--directory', root]],
  },
].map((row) => ({ ...row, quick: true, set: 'quick' }))

export const typeChecks = [...compilations, ...linters]
