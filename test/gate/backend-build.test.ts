// getLlama while another process builds llama.cpp: the wait is bounded, cancellable and reported, whoever builds.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, rmdirSync, utimesSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { after, before, beforeEach, test } from 'node:test'
import { GateFolder } from '../support/gate-folder.ts'
import { GateInstall } from '../support/gate-install.ts'
import { StandInCompiler, withCompiler } from '../support/stand-in-compiler.ts'

interface Message {
  /** The pid of the owner whom it waits for, or `null` for one that is not known. */
  readonly wait?: number | null
  readonly done?: string
  readonly code?: string
  readonly message?: string
  readonly afterMs?: number
}

/** A process that calls getLlama, and says what comes of it. */
class Caller implements AsyncDisposable {
  readonly #process: ChildProcess
  readonly #messages: Message[] = []
  readonly #watchers: (() => void)[] = []

  constructor(program: string) {
    this.#process = install.run(program)
    this.#process.stderr?.resume()
    if (this.#process.stdout === null) throw new Error('no stdout')
    const lines = createInterface(this.#process.stdout)
    lines.on('line', (line) => {
      if (!line.startsWith('{')) return
      this.#messages.push(JSON.parse(line))
      for (const watcher of this.#watchers) watcher()
    })
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  seen(fits: (message: Message) => boolean): Promise<Message> {
    return new Promise((resolve) => {
      const look = () => {
        const message = this.#messages.find(fits)
        if (message) resolve(message)
      }
      this.#watchers.push(look)
      look()
    })
  }

  /** Its last message. Its process ends by itself, with nothing left that keeps it alive. */
  async end(): Promise<Message> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, 'close')
    return this.#messages.at(-1) ?? {}
  }

  async kill(): Promise<void> {
    this.#process.kill('SIGKILL')
    await this.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill()
  }
}

let folder: GateFolder
let install: GateInstall
let compiler: StandInCompiler

before(async () => {
  if (withCompiler.skip) return
  folder = await GateFolder.create()
  install = await GateInstall.create({ withNodeLlamaCpp: true })
  compiler = await StandInCompiler.create(install)
})
beforeEach(() => compiler?.clear())
after(async () => {
  await compiler?.[Symbol.asyncDispose]()
  await install?.[Symbol.asyncDispose]()
  await folder?.[Symbol.asyncDispose]()
})

/** With `abortOnWait`, the call is aborted when it has to wait. */
function call(options: object = {}, { abortOnWait = false } = {}): Caller {
  return new Caller(`
    import { LlamaModelGate } from 'os-mutex/llama'
    const say = (message) => console.log(JSON.stringify(message))
    const gate = new LlamaModelGate(${JSON.stringify(folder.options)})
    const controller = new AbortController()
    const startedAt = performance.now()
    const onWait = (owner) => {
      say({ wait: owner?.pid ?? null })
      if (${abortOnWait}) controller.abort(Object.assign(new Error('enough'), { code: 'ABORTED' }))
    }
    try {
      const options = { gpu: false, skipDownload: true, progressLogs: false, ...${JSON.stringify(options)} }
      const llama = await gate.getLlama({ ...options, signal: controller.signal, onWait })
      say({ done: llama.buildType })
      await llama.dispose()
    } catch ({ code, message }) {
      say({ code, message, afterMs: performance.now() - startedAt })
    }
  `)
}

/** A process that builds by node-llama-cpp alone, without a gate. */
function foreignBuilder(): Caller {
  return new Caller(`
    import { getLlama } from 'node-llama-cpp'
    const llama = await getLlama({ gpu: false, skipDownload: true, progressLogs: false, build: 'forceRebuild' })
    console.log(JSON.stringify({ done: llama.buildType }))
    await llama.dispose()
  `)
}

/** Makes a lock of node-llama-cpp's one that its owner has not touched for so long that it counts as nobody's. */
function age(lock: string): void {
  const old = Date.now() / 1000 - 11
  utimesSync(lock, old, old)
}

test('two processes make one build: the second waits for the first by its mutex', withCompiler, async () => {
  await using builder = call()
  const compilation = await compiler.next()
  assert.equal(compilation.builder, builder.pid)
  await using waiter = call()
  assert.equal((await waiter.seen(({ wait }) => wait !== undefined)).wait, builder.pid)
  compilation.finish()
  assert.deepEqual([await builder.end(), await waiter.end()], [{ done: 'localBuild' }, { done: 'localBuild' }])
  assert.equal(compiler.compilations, 1)
})

test('timeoutMs ends the wait in the middle of a build, and the error says whose it is', withCompiler, async () => {
  await using builder = call()
  const compilation = await compiler.next()
  await using waiter = call({ timeoutMs: 200 })
  const { code, message, afterMs = 0 } = await waiter.end()
  assert.equal(code, 'ERR_MUTEX_TIMEOUT')
  for (const part of [`pid ${builder.pid}`, 'build llama.cpp', 'timeoutMs']) assert.ok(message?.includes(part), message)
  assert.ok(afterMs >= 200 * 0.99, `after ${afterMs} ms`)
  compilation.finish()
  assert.deepEqual(await builder.end(), { done: 'localBuild' })
})

test('the signal ends the wait in the middle of a build', withCompiler, async () => {
  await using builder = call()
  const compilation = await compiler.next()
  await using waiter = call({}, { abortOnWait: true })
  assert.equal((await waiter.end()).code, 'ABORTED')
  compilation.finish()
  await builder.end()
})

test('when the builder is killed, one who waits builds', withCompiler, async () => {
  await using builder = call()
  await compiler.next()
  await using waiter = call()
  await waiter.seen(({ wait }) => wait === builder.pid)
  await builder.kill()
  // node-llama-cpp's lock outlives its owner by 10 s.
  age(`${compiler.buildFolder}.lock`)
  const compilation = await compiler.next()
  assert.equal(compilation.builder, waiter.pid)
  compilation.finish()
  assert.deepEqual(await waiter.end(), { done: 'localBuild' })
})

for (const build of ['auto', 'never'] as const) {
  test(`a builder without a gate is waited for, within bounds, too: build: '${build}'`, withCompiler, async () => {
    await using builder = foreignBuilder()
    const compilation = await compiler.next()
    await using hasty = call({ build, timeoutMs: 200 })
    await using aborted = call({ build }, { abortOnWait: true })
    await using patient = call({ build })
    const [late, gone] = [await hasty.end(), await aborted.end()]
    assert.equal((await patient.seen(({ wait }) => wait !== undefined)).wait, null)
    assert.equal(late.code, 'ERR_MUTEX_TIMEOUT')
    assert.match(late.message ?? '', /another program's build of llama\.cpp.*node-llama-cpp's lock/)
    assert.equal(gone.code, 'ABORTED')
    compilation.finish()
    assert.deepEqual([await builder.end(), await patient.end()], [{ done: 'localBuild' }, { done: 'localBuild' }])
    assert.equal(compiler.compilations, 1)
  })
}

test('the lock of another variant, and one that is old, are nobody to wait for', withCompiler, async () => {
  for (const lock of ['-vulkan.lock', '-0123456789abcdefghijklmnopq.lock', '.lock']) {
    mkdirSync(compiler.buildFolder + lock, { recursive: true })
  }
  age(`${compiler.buildFolder}.lock`)
  await using builder = call({ timeoutMs: 0 })
  const compilation = await compiler.next()
  compilation.finish()
  assert.deepEqual(await builder.end(), { done: 'localBuild' })
})

test('a clone of the source by another program is waited for before a build', withCompiler, async () => {
  const lock = `${compiler.folder}/llama.cpp.lock`
  mkdirSync(lock)
  // As its owner does: the builder may take longer to start than an untouched lock counts.
  const touching = setInterval(() => utimesSync(lock, new Date(), new Date()), 2000)
  await using builder = call()
  try {
    assert.equal((await builder.seen(({ wait }) => wait !== undefined)).wait, null)
  } finally {
    clearInterval(touching)
    rmdirSync(lock)
  }
  const compilation = await compiler.next()
  compilation.finish()
  assert.deepEqual(await builder.end(), { done: 'localBuild' })
})

test('a build that begins while node-llama-cpp is asked ends the wait all the same', withCompiler, async () => {
  const lock = `${compiler.buildFolder}.lock`
  for (const [limitMs, abort, code] of [
    [100, false, 'ERR_MUTEX_TIMEOUT'],
    ['Infinity', true, 'ABORTED'],
  ] as const) {
    await compiler.clear()
    // What is asked makes the lock, and answers when the wait is over.
    await using caller = new Caller(`
      import { mkdirSync } from 'node:fs'
      import { ForeignBuild } from './node_modules/os-mutex/dist/llama/wait/foreign-build.js'
      import { Patience } from './node_modules/os-mutex/dist/llama/wait/patience.js'
      const say = (message) => console.log(JSON.stringify(message))
      const controller = new AbortController()
      const build = new ForeignBuild({ gpu: false }, {
        folder: ${JSON.stringify(compiler.folder)},
        patience: new Patience({ limitMs: ${limitMs}, extendWhileProgressing: false }),
        signal: controller.signal,
        findOwner: () => undefined,
        onWait: () => {
          say({ wait: null })
          if (${abort}) controller.abort(Object.assign(new Error('enough'), { code: 'ABORTED' }))
        },
      })
      let answer
      const question = () => new Promise((resolve) => {
        mkdirSync(${JSON.stringify(lock)}, { recursive: true })
        answer = resolve
      })
      await build.ask(question).catch(({ code }) => say({ code }))
      answer({ dispose: () => say({ done: 'disposed' }) })
    `)
    assert.deepEqual(await caller.end(), { done: 'disposed' })
    assert.equal((await caller.seen(({ wait }) => wait !== undefined)).wait, null)
    assert.equal((await caller.seen((message) => message.code !== undefined)).code, code)
  }
})
