// The demo, as a person without a terminal runs it; and its verdict, which must be able to fail.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Unstamped } from '../../examples/demo/protocol.ts'
import { ParticipantRecord } from '../../examples/demo/record.ts'
import { type Evidence, judge } from '../../examples/demo/verdict.ts'
import { ModelServer } from '../support/model-server.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

const MEBIBYTE = 2 ** 20
/** Nine starts of node-llama-cpp on a slow and busy machine. */
const TIMEOUT = { timeout: 180_000 }
const noSignals = {
  skip: process.platform === 'win32' && 'on Windows one process cannot send another a Ctrl-C, only end it',
}

class Demo implements AsyncDisposable {
  readonly folder: string
  readonly #process: ChildProcess
  output = ''

  private constructor(folder: string, args: readonly string[], signal: AbortSignal) {
    this.folder = folder
    const program = fileURLToPath(new URL('../../examples/demo/main.js', import.meta.url))
    this.#process = spawn(process.execPath, [program, ...args], {
      // The last two are Windows' names for it.
      env: { ...process.env, TMPDIR: folder, TEMP: folder, TMP: folder },
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
      killSignal: 'SIGKILL',
    })
    this.#process.on('error', (error) => {
      this.output += error
    })
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
  }

  /** Ends with the test's time, too. */
  static async start(test: TestContext, ...args: readonly string[]): Promise<Demo> {
    return new Demo(await mkdtemp(join(tmpdir(), 'os-mutex-demo-test-')), args, test.signal)
  }

  async exit(): Promise<number | null> {
    if (!this.#hasEnded) await once(this.#process, 'close')
    return this.#process.exitCode
  }

  async says(text: string): Promise<void> {
    while (!this.output.includes(text)) {
      const { stdout } = this.#process
      assert.ok(stdout !== null && !this.#hasEnded, this.output)
      await once(stdout, 'data')
    }
  }

  interrupt(): void {
    this.#process.kill('SIGINT')
  }

  get findings(): string[] {
    return this.output.split('\n').filter((line) => /^ (ok|BROKEN) /.test(line))
  }

  get #hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Its children end by themselves when their channel to it closes.
    if (!this.#hasEnded) this.#process.kill('SIGKILL')
    await rm(this.folder, { recursive: true, force: true, maxRetries: 20 })
  }
}

test('the demo kills two of its processes, keeps every promise and leaves nothing behind', TIMEOUT, async (t) => {
  await using demo = await Demo.start(t, '--size', '8MiB', '--rate', '4MiB')
  assert.equal(await demo.exit(), 0, demo.output)
  assert.equal(demo.findings.length, 9, demo.output)
  for (const finding of demo.findings) assert.match(finding, /^ ok /, demo.output)
  assert.ok(demo.output.split('\n').length < 120, 'the number of lines is bounded')
  assert.deepEqual(await readdir(demo.folder), [])
})

test('the demo does the same with a model from a server that is not its own', TIMEOUT, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'os-mutex-demo-test-'))
  await using server = await ModelServer.start({ bytesPerSecond: 4 * MEBIBYTE })
  try {
    const { path } = makeTinyGguf({ path: join(folder, 'other.gguf'), bytes: 8 * MEBIBYTE })
    await using demo = await Demo.start(t, server.serve('/other.gguf', path))
    assert.equal(await demo.exit(), 0, demo.output)
    assert.equal(demo.findings.length, 9, demo.output)
    for (const finding of demo.findings) assert.match(finding, /^ ok /, demo.output)
    assert.deepEqual(await readdir(demo.folder), [])
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 20 })
  }
})

test('Ctrl-C ends the demo with all of its processes and files', { ...TIMEOUT, ...noSignals }, async (t) => {
  await using demo = await Demo.start(t, '--size', '8MiB', '--rate', '1MiB')
  await demo.says('waits for the download')
  demo.interrupt()
  assert.equal(await demo.exit(), 130, demo.output)
  assert.deepEqual(await readdir(demo.folder), [])
  const pids = [...demo.output.matchAll(/pid (\d+)/g)].map(([, pid]) => Number(pid))
  assert.ok(pids.length > 1)
  // Killed before the demo ended, they may take a moment to be gone. One that lives on runs into the test's time limit.
  for (const pid of pids) while (isAlive(pid)) await delay(10)
})

test('the demo refuses what it cannot do with a word on how to use it', TIMEOUT, async (t) => {
  for (const args of [
    ['--size', 'big'],
    ['--rate', '48MiB'],
    ['--size', '8MiB', 'hf:a/b/c.gguf'],
    ['a', 'b'],
    ['--no'],
  ]) {
    await using demo = await Demo.start(t, ...args)
    assert.equal(await demo.exit(), 2, demo.output)
    assert.match(demo.output, /npm run demo/)
  }
})

test('a model that cannot be had is a broken promise', TIMEOUT, async (t) => {
  await using server = await ModelServer.start()
  await using demo = await Demo.start(t, `${server.origin}/missing.gguf`)
  assert.equal(await demo.exit(), 1, demo.output)
  assert.match(demo.output, /ERR_MODEL_HTTP_STATUS/)
  assert.deepEqual(await readdir(demo.folder), [])
})

const DOWNLOAD = 'Global\\os-mutex_Download_1'
const MODEL = 'Global\\os-mutex_Model_1'
const SIZE = 1000

interface Story {
  readonly victim: ParticipantRecord
  readonly loader: ParticipantRecord
  readonly survivor: ParticipantRecord
  readonly last: ParticipantRecord
}

function give(record: ParticipantRecord, atMs: number, ...reports: Unstamped[]): void {
  for (const report of reports) record.apply({ ...report, atMs })
}

/** Four participants: one dies in its download, one in its load, two survive. */
function tellStory(): Story {
  const story: Story = {
    victim: new ParticipantRecord('P1'),
    loader: new ParticipantRecord('P2'),
    survivor: new ParticipantRecord('P3'),
    last: new ParticipantRecord('P4'),
  }
  const { victim, loader, survivor, last } = story
  const all = [victim, loader, survivor, last]
  for (const [index, record] of all.entries()) {
    give(record, 0, { is: 'ready', pid: 101 + index, threadId: 0 }, { is: 'acquired', mutex: DOWNLOAD, waitedMs: 0 })
  }
  const downloading = (done: number): Unstamped => ({
    is: 'progress',
    progress: { phase: 'downloading', done, total: SIZE },
  })
  give(victim, 1, downloading(0), downloading(400))
  victim.willBeKilled({ atMs: 2, lockOwner: 101 })
  give(survivor, 3, { is: 'abandonment', mutex: DOWNLOAD, previousOwner: { pid: 101 } })
  give(survivor, 4, downloading(450), downloading(SIZE))
  const acquired: Unstamped = { is: 'acquired', mutex: MODEL, waitedMs: 1 }
  give(loader, 10, acquired, { is: 'load-start' }, { is: 'load-progress', fraction: 0.1 })
  loader.willBeKilled({ atMs: 12, lockOwner: 102 })
  give(survivor, 13, acquired, { is: 'abandonment', mutex: MODEL, previousOwner: { pid: 102 } }, { is: 'load-start' })
  give(survivor, 15, { is: 'load-end' })
  give(last, 15, acquired, { is: 'load-start' })
  give(last, 17, { is: 'load-end' })
  for (const record of [survivor, last]) {
    give(record, 20, { is: 'token', text: 'a' }, { is: 'done', path: '/models/m.gguf', sha256: 'aa' })
  }
  return story
}

function evidence({ victim, loader, survivor, last }: Story, changes: Partial<Evidence> = {}): Evidence {
  return {
    records: [victim, loader, survivor, last],
    original: { bytes: SIZE, sha256: 'aa' },
    served: [
      { from: 0, bytes: 460 },
      { from: 450, bytes: 550 },
    ],
    published: { bytes: SIZE, sha256: 'aa' },
    folder: ['m.gguf', '.m.gguf.os-mutex.json'],
    mutexes: [
      { name: DOWNLOAD, held: false },
      { name: MODEL, held: false },
    ],
    endings: [0, 0],
    ...changes,
  }
}

function broken(evidence: Evidence): string[] {
  return judge(evidence).flatMap(({ promise, kept }) => (kept ? [] : [promise]))
}

test('the verdict finds nothing wrong with a good run, with or without a server of its own', () => {
  assert.deepEqual(broken(evidence(tellStory())), [])
  assert.deepEqual(broken(evidence(tellStory(), { original: undefined, served: undefined })), [])
})

test('the verdict tells a kill that missed', () => {
  const missed = tellStory()
  missed.loader.killing = { atMs: 12, lockOwner: 103 }
  assert.deepEqual(broken(evidence(missed)), ['kills'])
  const tooLate = tellStory()
  tooLate.victim.activity = { is: 'killed', downloaded: 1 }
  assert.deepEqual(broken(evidence(tooLate)), ['kills'])
})

test('the verdict tells bytes that were sent twice, or sent and never asked for', () => {
  const serve = (...ranges: readonly (readonly [from: number, bytes: number])[]) =>
    broken(evidence(tellStory(), { served: ranges.map(([from, bytes]) => ({ from, bytes })) }))
  assert.deepEqual(serve([0, 460], [0, 1000]), ['one download'])
  // The killed process had reported 400 bytes as kept. It may not have noted those of its last moment.
  assert.deepEqual(serve([0, 460], [340, 660]), [])
  assert.deepEqual(serve([0, 460], [330, 670]), ['one download'])
  assert.deepEqual(serve([0, 460], [450, 550], [0, 1000]), ['one download'])
  assert.deepEqual(serve([0, 440], [450, 550]), ['one download'])
  assert.deepEqual(serve([0, 460], [450, 549]), ['one download'])
  assert.deepEqual(serve(), ['one download'])
})

test('the verdict tells from the participants alone that bytes were received twice', () => {
  const foreign = { original: undefined, served: undefined }
  const again = tellStory()
  give(again.last, 5, { is: 'progress', progress: { phase: 'downloading', done: 0, total: SIZE } })
  give(again.last, 6, { is: 'progress', progress: { phase: 'downloading', done: SIZE, total: SIZE } })
  assert.deepEqual(broken(evidence(again, foreign)), ['one download'])

  const startedOver = tellStory()
  startedOver.survivor.fetched = { from: 0, to: SIZE, total: SIZE }
  assert.deepEqual(broken(evidence(startedOver, foreign)), ['one download'])
})

test('the verdict tells a participant that got other bytes', () => {
  assert.deepEqual(broken(evidence(tellStory(), { published: { bytes: SIZE, sha256: 'bb' } })), ['one content'])
  assert.deepEqual(broken(evidence(tellStory(), { original: { bytes: SIZE, sha256: 'bb' } })), ['one content'])
  const story = tellStory()
  story.last.file = { path: '/models/m.gguf', sha256: 'bb' }
  assert.deepEqual(broken(evidence(story)), ['one content'])
})

test('the verdict tells loads that overlapped or are missing', () => {
  const overlapping = tellStory()
  overlapping.last.loads.splice(0, 1, { fromMs: 14, toMs: 17 })
  assert.deepEqual(broken(evidence(overlapping)), ['loads apart'])
  const beforeTheKill = tellStory()
  beforeTheKill.survivor.loads.splice(0, 1, { fromMs: 11, toMs: 15 })
  assert.deepEqual(broken(evidence(beforeTheKill)), ['loads apart'])
  const unseen = tellStory()
  unseen.last.loads.pop()
  assert.deepEqual(broken(evidence(unseen)), ['loads apart'])
})

test('the verdict tells an abandonment that nobody was told of, two were told of, or that was none', () => {
  const untold = tellStory()
  untold.survivor.abandonments.pop()
  assert.deepEqual(broken(evidence(untold)), ['abandonments'])
  const twice = tellStory()
  give(twice.last, 16, { is: 'abandonment', mutex: MODEL, previousOwner: { pid: 102 } })
  assert.deepEqual(broken(evidence(twice)), ['abandonments'])
  const afterRelease = tellStory()
  give(afterRelease.last, 16, { is: 'abandonment', mutex: MODEL, previousOwner: { pid: 103 } })
  assert.deepEqual(broken(evidence(afterRelease)), ['abandonments'])
})

test('the verdict tells a survivor without tokens, a stray file, a held lock and a crash at the end', () => {
  const silent = tellStory()
  silent.last.tokens = 0
  assert.deepEqual(broken(evidence(silent)), ['tokens'])
  const folder = ['m.gguf', '.m.gguf.os-mutex.json', 'm.gguf.0123abcd.partial']
  assert.deepEqual(broken(evidence(tellStory(), { folder })), ['clean folder'])
  assert.deepEqual(broken(evidence(tellStory(), { folder: [] })), ['clean folder'])
  const mutexes = [
    { name: DOWNLOAD, held: false },
    { name: MODEL, held: true },
  ]
  assert.deepEqual(broken(evidence(tellStory(), { mutexes })), ['locks free'])
  assert.deepEqual(broken(evidence(tellStory(), { endings: [0, 'SIGSEGV'] })), ['clean ends'])
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
