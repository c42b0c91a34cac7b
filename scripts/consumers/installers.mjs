// Package managers, each in a project of its own that has nothing but what they install.
import { nodes } from './runtimes.mjs'
import { cjs, esm } from './use.mjs'

const manifest = (tarball, more = {}) =>
  JSON.stringify({
    name: 'consumer',
    version: '1.0.0',
    private: true,
    dependencies: { 'os-mutex': `file:${tarball}`, ...more },
  })
const files = (tarball, more) => ({ 'package.json': manifest(tarball, more), 'main.mjs': esm, 'main.cjs': cjs })
const both = (node) => [
  [node, 'main.mjs'],
  [node, 'main.cjs'],
]

const pnpm = {
  consumer: 'pnpm',
  how: 'its default linker',
  version: 'pnpm',
  on: nodes[24],
  alone: true,
  files: ({ tarball }) => files(tarball),
  commands: ({ node, tool }) => [[node, tool('pnpm/bin/pnpm.cjs'), 'install', '--ignore-workspace'], ...both(node)],
}

const yarn = {
  consumer: 'Yarn',
  how: 'Plug’n’Play',
  version: '@yarnpkg/cli-dist',
  on: nodes[24],
  alone: true,
  files: ({ tarball, registry }) => ({
    ...files(tarball),
    '.yarnrc.yml': `nodeLinker: pnp\nenableTelemetry: false\nenableGlobalCache: false\nenableImmutableInstalls: false\nnpmRegistryServer: ${JSON.stringify(registry)}\nunsafeHttpWhitelist: ['*']\nnpmMinimalAgeGate: 0\n`,
    'yarn.lock': '',
  }),
  commands: ({ node, tool }) => {
    const yarn = [node, tool('@yarnpkg/cli-dist/bin/yarn.js')]
    return [
      [...yarn, 'install'],
      [...yarn, 'node', 'main.mjs'],
      [...yarn, 'node', 'main.cjs'],
    ]
  },
}

// What is tested is whether npm refuses the peer; the binaries of node-llama-cpp are not needed for it.
const npm = ['3.10.0', '3.14.5', '3.19.1', '3.22.1'].map((version) => ({
  consumer: 'npm',
  how: `beside node-llama-cpp ${version}`,
  version: 'npm',
  alone: true,
  files: ({ tarball }) => files(tarball, { 'node-llama-cpp': version }),
  commands: ({ node }) => [
    ['npm', 'install', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund'],
    ...both(node),
    [
      node,
      '-p',
      `assert.equal(JSON.parse(fs.readFileSync('node_modules/node-llama-cpp/package.json')).version, '${version}')`,
    ],
  ],
}))

export const installers = [pnpm, yarn, ...npm]
