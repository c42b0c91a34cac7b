// Bundlers: each with the package external, as docs/bundlers.md says, and with the package bundled in by mistake.
import { nodes } from './runtimes.mjs'
import { cjs, esm, functionText, importText } from './use.mjs'

const files = { 'main.mjs': esm, 'main.cjs': cjs }
const external = '--external:os-mutex'
const tells = /declare 'os-mutex' external/

const esbuild = ['esm', 'cjs'].flatMap((format) => {
  const [from, to] = format === 'esm' ? ['main.mjs', 'out/main.mjs'] : ['main.cjs', 'out/main.cjs']
  const build = ({ tool }) => [
    tool('esbuild/bin/esbuild'),
    from,
    '--bundle',
    '--platform=node',
    `--format=${format}`,
    `--outfile=${to}`,
  ]
  return [
    { how: external, flags: [external] },
    { how: 'bundled in by mistake', flags: [], tells },
  ].map(({ how, flags, tells }) => ({
    consumer: 'esbuild',
    how: `${format}, ${how}`,
    version: 'esbuild',
    quick: format === 'esm',
    files,
    tells,
    commands: (place) => [
      [...build(place), ...flags],
      [place.node, to],
    ],
  }))
})

const webpackConfig = (lines, isModule) => `const path = require('node:path')
module.exports = {
  mode: 'production',
  target: 'node20',
  entry: './main.mjs',
  output: { path: path.join(__dirname, 'out'), filename: 'main.cjs', module: ${isModule} },
  ${lines}
}
`
const webpackModule = `experiments: { outputModule: true },
  externals: [/^os-mutex(\\/|$)/],
  externalsType: 'module',`
const webpackRun = `const { promisify } = require('node:util')
const webpack = require('webpack')
promisify(webpack)(require('./webpack.config.cjs')).then((stats) => {
  console.log(stats.toString())
  process.exitCode = stats.hasErrors() ? 1 : 0
})
`
const webpack = [
  { how: 'externals, commonjs', lines: `externals: [/^os-mutex(\\/|$)/],\n  externalsType: 'commonjs',`, quick: false },
  { how: 'externals, module', lines: webpackModule, to: 'out/main.mjs' },
  {
    how: 'bundled in by mistake',
    lines: `externals: { 'node-llama-cpp': 'commonjs node-llama-cpp' },`,
    tells,
    quick: true,
  },
].map(({ how, lines, to = 'out/main.cjs', tells, quick = false }) => ({
  consumer: 'webpack',
  how,
  version: 'webpack',
  quick,
  tells,
  files: {
    ...files,
    'webpack.config.cjs': webpackConfig(lines, to.endsWith('.mjs')).replace('main.cjs', to.slice('out/'.length)),
    'build.cjs': webpackRun,
  },
  commands: ({ node }) => [
    [node, 'build.cjs'],
    [node, to],
  ],
}))

const rollupConfig = (isExternal) => `import commonjs from '@rollup/plugin-commonjs'
import { nodeResolve } from '@rollup/plugin-node-resolve'
export default {
  input: 'main.mjs',
  output: { file: 'out/main.mjs', format: 'es', inlineDynamicImports: true },
  external: ${isExternal ? '[/^os-mutex/]' : `['node-llama-cpp']`},
  plugins: [nodeResolve({ preferBuiltins: true }), commonjs()],
}
`
const rollup = [
  { how: 'external', isExternal: true },
  { how: 'bundled in by mistake', isExternal: false, tells },
].map(({ how, isExternal, tells }) => ({
  consumer: 'rollup',
  how,
  version: 'rollup',
  // A bundle of ES modules with undici in it has node:sqlite, which Node 20 does not know.
  on: nodes[24],
  tells,
  files: { ...files, 'rollup.config.mjs': rollupConfig(isExternal) },
  commands: ({ node, tool }) => [
    [node, tool('rollup/dist/bin/rollup'), '-c', 'rollup.config.mjs'],
    [node, 'out/main.mjs'],
  ],
}))

const vite = [
  { how: 'SSR, as it is', config: '' },
  { how: 'SSR, noExternal by mistake', config: `ssr: { noExternal: true, external: ['node-llama-cpp'] },`, tells },
].map(({ how, config, tells }) => ({
  consumer: 'vite',
  how,
  version: 'vite',
  on: nodes[24],
  tells,
  files: {
    ...files,
    'vite.config.mjs': `export default { ${config} build: { ssr: 'main.mjs', outDir: 'out', target: 'node20' } }`,
  },
  commands: ({ node, tool }) => [
    [node, tool('vite/bin/vite.js'), 'build'],
    [
      node,
      '--input-type=module',
      '-e',
      `await import(['./out/main.js', './out/main.mjs'].find((file) => fs.existsSync(file)))`,
    ],
  ],
}))

const ncc = [
  { how: '-e os-mutex -e os-mutex/llama', flags: ['-e', 'os-mutex', '-e', 'os-mutex/llama'] },
  { how: 'bundled in by mistake', flags: ['-e', 'node-llama-cpp'], tells },
].map(({ how, flags, tells }) => ({
  consumer: 'ncc',
  how,
  version: '@vercel/ncc',
  tells,
  files,
  commands: ({ node, tool }) => [
    [node, tool('@vercel/ncc/dist/ncc/cli.js'), 'build', 'main.cjs', '-o', 'out', ...flags],
    [node, 'out/index.cjs'],
  ],
}))

const tsup = {
  consumer: 'tsup',
  how: 'as it is, for dependencies are external',
  version: 'tsup',
  on: nodes[24],
  files: {
    'package.json': JSON.stringify({
      name: 'consumer',
      version: '1.0.0',
      private: true,
      dependencies: { 'os-mutex': '*' },
    }),
    'main.mts': esm,
  },
  commands: ({ node, tool }) => [
    [node, tool('tsup/dist/cli-default.js'), 'main.mts', '--format', 'esm', '--target', 'node20', '--out-dir', 'out'],
    [node, 'out/main.mjs'],
  ],
}

const nextRun = `const { spawn } = require('node:child_process')
const server = spawn(process.execPath, [require.resolve('next/dist/bin/next'), 'start', '-p', '0', '-H', '127.0.0.1'])
let said = ''
for (const stream of [server.stdout, server.stderr]) stream.on('data', async (text) => {
  said += text
  const url = /http:\\/\\/127\\.0\\.0\\.1:\\d+/.exec(said)?.[0]
  if (url === undefined || said.asked) return
  stream.removeAllListeners('data')
  const answer = await fetch(url + '/api').then((response) => response.text())
  setTimeout(() => {
    console.log(said, answer)
    server.kill()
    process.exit(answer === 'done' ? 0 : 1)
  }, 500)
})
`
const next = [
  { how: 'serverExternalPackages', config: `serverExternalPackages: ['os-mutex'],` },
  { how: 'bundled in by mistake', config: `serverExternalPackages: ['node-llama-cpp'],`, tells },
].map(({ how, config, tells }) => ({
  consumer: 'Next (Turbopack)',
  how,
  version: 'next',
  on: nodes[24],
  tells,
  files: {
    'next.config.mjs': `import path from 'node:path'
export default { ${config} turbopack: { root: path.resolve('../..') } }
`,
    'app/layout.js': 'export default ({ children }) => <html><body>{children}</body></html>\n',
    'app/page.js': 'export default () => <p>consumer</p>\n',
    'app/api/route.js': `export const dynamic = 'force-dynamic'
${importText}${functionText}
export async function GET() {
  try {
    await use()
    return new Response('done')
  } catch (error) {
    return new Response(String(error?.stack), { status: 500 })
  }
}
`,
    'run.cjs': nextRun,
  },
  commands: ({ node, tool }) => [
    [node, tool('next/dist/bin/next'), 'build'],
    [node, 'run.cjs'],
  ],
}))

export const bundlers = [...esbuild, ...rollup, ...vite, ...webpack, ...ncc, tsup, ...next]
