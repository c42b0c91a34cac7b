// Programs that run a user's modules by a loader of their own.
import { nodes } from './runtimes.mjs'
import { cjs, esm, functionText, importTest, importText, requireTest } from './use.mjs'

const jest = (tool) => tool('jest/bin/jest.js')
const vmModules = '--experimental-vm-modules'
const two = (name, text) => ({ [`one.${name}`]: text, [`two.${name}`]: text })

const jests = [undefined, nodes[24]].flatMap((on) => [
  {
    consumer: 'Jest',
    how: 'as it is, require()',
    version: 'jest',
    quick: on === undefined,
    on,
    files: two('test.js', requireTest),
    commands: ({ node, tool }) => [[node, jest(tool), '--rootDir', '.']],
  },
  {
    consumer: 'Jest',
    how: 'babel-jest, import',
    version: 'jest',
    on,
    files: {
      ...two('test.js', importTest),
      'babel.config.js': `module.exports = { presets: [['@babel/preset-env', { targets: { node: 'current' } }]] }`,
    },
    commands: ({ node, tool }) => [[node, jest(tool), '--rootDir', '.']],
  },
  {
    consumer: 'Jest',
    how: `ES modules (${vmModules}), import`,
    version: 'jest',
    on,
    files: two('test.mjs', importTest),
    commands: ({ node, tool }) => [
      [node, vmModules, jest(tool), '--rootDir', '.', '--testMatch', '**/*.test.mjs'],
      [node, vmModules, jest(tool), '--rootDir', '.', '--testMatch', '**/*.test.mjs', '--workerThreads'],
    ],
  },
])

const vitests = ['threads', 'forks', 'vmThreads', 'vmForks'].map((pool) => ({
  consumer: 'vitest',
  how: `pool ${pool}`,
  version: 'vitest',
  on: nodes[24],
  files: two('test.js', `import { test } from 'vitest'\n${importTest}`),
  commands: ({ node, tool }) => [[node, tool('vitest/vitest.mjs'), 'run', `--pool=${pool}`]],
}))

const ofNode = {
  consumer: 'node --test',
  how: 'two files at a time',
  files: two('test.mjs', `import { test } from 'node:test'\n${importTest}`),
  commands: ({ node }) => [[node, '--test']],
}

const cluster = {
  consumer: 'node:cluster',
  how: 'four workers',
  files: {
    'main.mjs': `import cluster from 'node:cluster'\n${importText}${functionText}
if (cluster.isPrimary) {
  let left = 4
  for (let count = 0; count < 4; count++) {
    cluster.fork().on('exit', (code) => {
      if (code !== 0) throw new Error('a worker failed')
      if (--left === 0) console.log('done')
    })
  }
} else {
  await use()
  process.exit(0)
}
`,
  },
  commands: ({ node }) => [[node, 'main.mjs']],
}

const tsxs = [undefined, nodes[24]].flatMap((on) =>
  ['mts', 'cts'].map((ending) => ({
    consumer: 'tsx',
    how: `.${ending}`,
    version: 'tsx',
    quick: on === undefined && ending === 'cts',
    on,
    files: {
      [`main.${ending}`]:
        ending === 'mts' ? esm : cjs.replaceAll(/^const (\{.*\}) = require\((.*)\)$/gm, 'import $1 from $2'),
    },
    commands: ({ node, tool }) => [[node, tool('tsx/dist/cli.mjs'), `main.${ending}`]],
  })),
)

export const testRunners = [...jests, ...vitests, ofNode, cluster, ...tsxs]
