// How a runtime is started on each kind of target: `command` stands before the script's name, `env` is the environment, and `stop`
// ends what was started for all of them.
import { chmodSync, copyFileSync, realpathSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { cache, cachedFolder } from './cache.mjs'
import { debianRoot } from './chroot.mjs'
import { call, requirePackages } from './debian.mjs'
import { runtime } from './runtimes.mjs'
import { wine, wineIn } from './wine.mjs'

export const launchers = {
  native: async (target) => ({ command: [runtime(target.runtime)], env: process.env }),

  deno: async (target) => ({ command: [runtime(target.runtime), 'run', '--allow-all'], env: process.env }),

  wine: async (target) => onWine(target, await wine()),

  wine10: async (target) => onWine(target, await wineIn('trixie', await debianRoot('trixie', ['wine', 'wine64']))),

  qemu: async (target) => {
    requirePackages('qemu-user-static', 'libc6-arm64-cross', 'libstdc++6-arm64-cross')
    const folder = cache('qemu', target.name)
    // The kernel can't run an arm64 program, so what tests start as process.execPath has to be this script.
    const wrapper = path.join(folder, 'node')
    writeFileSync(
      wrapper,
      `#!/bin/sh\nexec qemu-aarch64-static -L /usr/aarch64-linux-gnu '${runtime(target.runtime)}' "$@"\n`,
    )
    chmodSync(wrapper, 0o755)
    const preload = path.join(folder, 'exec-path.cjs')
    writeFileSync(preload, `process.execPath = ${JSON.stringify(wrapper)}\n`)
    return {
      command: [wrapper],
      env: { ...process.env, NODE_OPTIONS: `--require=${preload}`, OS_MUTEX_TEST_EMULATOR: 'qemu' },
    }
  },

  musl: async (target) => {
    requirePackages('gcc', 'libc6-dev')
    const enter = await debianRoot('trixie', ['musl', 'python3-minimal', 'binutils'])
    const libraries = await cachedFolder('musl', 'libraries', (begun) => {
      const of = '/usr/lib/x86_64-linux-gnu'
      for (const name of ['libstdc++.so.6', 'libgcc_s.so.1'])
        copyFileSync(realpathSync(`${of}/${name}`), path.join(begun, name))
      const shim = 'ld-linux-x86-64.so.2' // the library of glibc that those two ask for
      const options = ['-shared', '-fPIC', '-O2', '-nostdlib', `-Wl,-soname,${shim}`, '-o', path.join(begun, shim)]
      call('gcc', [...options, path.join(import.meta.dirname, 'musl-shim.c')])
    })
    // On Alpine, /etc/alpine-release says what LIBC says here.
    return {
      command: [...enter, runtime(target.runtime)],
      env: { ...process.env, LD_LIBRARY_PATH: libraries, LIBC: 'musl' },
    }
  },

  bullseye: async (target) => ({
    command: [...(await debianRoot('bullseye', ['python3-minimal', 'binutils'])), runtime(target.runtime)],
    env: process.env,
  }),
}

function onWine(target, { command, env, stop }) {
  return { command: [...command, runtime(target.runtime)], env, stop }
}
