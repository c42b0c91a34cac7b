// Builds of llama.cpp that hold node-llama-cpp's own lock. node-llama-cpp waits for that lock without a limit, a signal
// or a report, also where it is only asked for a binary that exists. So it is waited for here, before node-llama-cpp is
// asked.
//
// The lock of <folder> is the folder <folder>.lock. Its owner touches it every 5 s, and after 10 s without that it is
// nobody's:
// https://github.com/moxystudio/node-proper-lockfile#design, with the figures of node-llama-cpp's withLockfile.
import { readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { MutexTimeoutError } from '../../mutex/errors.ts'
import type { OwnerInfo } from '../../mutex/owner-info.ts'
import type { Llama, LlamaOptions } from '../node-llama-cpp.ts'
import type { Patience } from './patience.ts'

const STALE_MS = 10_000
const POLL_INTERVAL_MS = 250

export interface BuildWait {
  /** node-llama-cpp's, of sources and builds. Where it is not known, no build is seen. */
  readonly folder: string | undefined
  readonly patience: Patience
  readonly signal: AbortSignal | undefined
  /** Called when a wait begins, with the owner of the gate's own mutex if a gate builds. */
  readonly onWait: ((owner: OwnerInfo | undefined) => void) | undefined
  readonly findOwner: () => OwnerInfo | undefined
}

export class ForeignBuild {
  readonly #folder: string | undefined
  readonly #isWanted: (variant: string) => boolean
  readonly #wait: BuildWait

  constructor(options: LlamaOptions, wait: BuildWait) {
    this.#folder = wait.folder
    this.#isWanted = (variant) => isVariantOf(options, variant)
    this.#wait = wait
  }

  /** The lock of a build that may be of the wanted variant. */
  async find(): Promise<string | undefined> {
    if (this.#folder === undefined) return undefined
    const builds = join(this.#folder, 'localBuilds')
    const names = await readdir(builds).catch(() => [])
    const locks = names.filter((name) => name.endsWith(SUFFIX) && this.#isWanted(name.slice(0, -SUFFIX.length)))
    return firstActive(locks.map((name) => join(builds, name)))
  }

  /**
   * Resolves when there may be a build: nobody builds this variant, nor clones the source.
   * @throws {MutexTimeoutError} `ERR_MUTEX_TIMEOUT`; the signal's reason.
   */
  async end(): Promise<void> {
    const source = this.#folder === undefined ? [] : [join(this.#folder, `llama.cpp${SUFFIX}`)]
    await this.#until(async () => (await this.find()) ?? (await firstActive(source)), this.#wait.signal)
  }

  /**
   * Asks node-llama-cpp for what no build is needed for. Should a build begin just then, which holds up the answer, the
   * wait ends all the same. The answer is then disposed of when it comes.
   * @throws as {@link end}, and what `question` rejects with.
   */
  async ask<T extends Llama | undefined>(question: () => Promise<T>): Promise<T> {
    const { signal } = this.#wait
    await this.#until(() => this.find(), signal)
    const settled = new AbortController()
    const answer = question()
    try {
      return await Promise.race([
        answer,
        this.#heldUp(signal ? AbortSignal.any([settled.signal, signal]) : settled.signal),
      ])
    } catch (error) {
      answer.then((llama) => llama?.dispose()).catch(() => {})
      throw error
    } finally {
      settled.abort()
    }
  }

  /** Rejects when builds hold up the answer for too long, and by the signal. */
  async #heldUp(signal: AbortSignal): Promise<never> {
    for (;;) {
      await pause(POLL_INTERVAL_MS, signal)
      await this.#until(() => this.find(), signal)
    }
  }

  async #until(find: () => Promise<string | undefined>, signal: AbortSignal | undefined): Promise<void> {
    const { patience, onWait, findOwner } = this.#wait
    let lock = await find()
    if (lock === undefined) return
    signal?.throwIfAborted()
    patience.begin(undefined)
    try {
      onWait?.(findOwner())
      while (lock !== undefined) {
        const leftMs = patience.look(undefined)
        if (leftMs <= 0) throw timeoutError(lock, patience.limitMs, findOwner())
        await pause(Math.min(leftMs, POLL_INTERVAL_MS), signal)
        lock = await find()
      }
    } finally {
      patience.end()
    }
  }
}

async function firstActive(locks: readonly string[]): Promise<string | undefined> {
  for (const lock of locks) {
    const stats = await stat(lock).catch(() => undefined)
    if (stats !== undefined && stats.mtimeMs >= Date.now() - STALE_MS) return lock
  }
  return undefined
}

const SUFFIX = '.lock'
const PLATFORMS: Readonly<Record<string, string>> = { win32: 'win', cygwin: 'win', darwin: 'mac', android: 'linux' }
const GPU_TYPES = ['cuda', 'vulkan', 'metal']
/** How node-llama-cpp ends the name of a build with CMake options: 20 bytes, each in base 36. */
const CUSTOM = /-[0-9a-z]{20,40}$/

/**
 * Whether a call with these options may look at this build. A build is named
 * `<platform>-<arch>[-<gpu>][-release-<release>][-<hash of the CMake options>]`. With `gpu: 'auto'` that is any GPU's,
 * since the machine decides which are tried.
 */
function isVariantOf({ gpu, cmakeOptions }: LlamaOptions, variant: string): boolean {
  const target = `${PLATFORMS[process.platform] ?? process.platform}-${process.arch}`
  if (variant !== target && !variant.startsWith(`${target}-`)) return false
  if (CUSTOM.test(variant) && !mayBeCustom(cmakeOptions)) return false
  const type = GPU_TYPES.find((type) => `${variant}-`.startsWith(`${target}-${type}-`)) ?? false
  return gpu === undefined || typeof gpu === 'object' || gpu === 'auto' || gpu === type
}

/** node-llama-cpp takes CMake options from the environment as well. */
function mayBeCustom(cmakeOptions: LlamaOptions['cmakeOptions']): boolean {
  const names = Object.keys(process.env)
  return (
    Object.keys(cmakeOptions ?? {}).length > 0 ||
    names.some((name) => /^(NODE_LLAMA_CPP_CMAKE_OPTION|GGML)_/.test(name))
  )
}

/** Rejects with the signal's own reason, and not with an error of the timer's. */
async function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await delay(ms, undefined, signal && { signal }).catch(() => signal?.throwIfAborted())
}

function timeoutError(lock: string, timeoutMs: number, owner: OwnerInfo | undefined): MutexTimeoutError {
  const message =
    `Waited ${timeoutMs / 1000} s in vain for another program's build of llama.cpp (${basename(lock, SUFFIX)}). It ` +
    `holds node-llama-cpp's lock ${lock}. Wait longer (timeoutMs), or end that program: its lock is free 10 s later.`
  return new MutexTimeoutError(message, { mutexName: lock, timeoutMs, held: true, owner })
}
