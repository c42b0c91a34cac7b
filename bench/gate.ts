// What the gate costs: each figure beside the same work without it, run in pairs so that both see the same machine.
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getLlama } from 'node-llama-cpp'
import { LlamaModelGate } from 'os-mutex/llama'
import { ModelServer } from '../test/support/model-server.ts'
import { makeTinyGguf } from '../test/support/tiny-gguf.ts'

const WARM_UP = 20
const LOADS = 400
const LOOKS = 2000

const folder = await mkdtemp(join(tmpdir(), 'os-mutex-bench-'))
const server = await ModelServer.start()
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, progressLogs: false, maxThreads: 1 })
try {
  const model = makeTinyGguf({ path: join(folder, 'source.gguf') })
  const url = server.serve('/model.gguf', model.path)
  const gate = new LlamaModelGate({ modelsDirectory: join(folder, 'models'), mutexDirectory: folder })
  const { path: modelPath, bytes } = await gate.ensureModel(url)
  console.log(`model of ${bytes / 1024} KiB, medians of pairs\n`)

  report(
    'llama.loadModel',
    'gate.loadModel',
    await inPairs(
      LOADS,
      () => llama.loadModel({ modelPath }),
      () => gate.loadModel(llama, { modelPath }),
      (loaded) => loaded.dispose(),
    ),
  )
  report(
    'fs.stat',
    'gate.ensureModel, cached',
    await inPairs(
      LOOKS,
      () => stat(modelPath),
      () => gate.ensureModel(url),
    ),
  )
} finally {
  await llama.dispose()
  await server.close()
  await rm(folder, { recursive: true })
}

interface Pair {
  readonly bareMs: number
  readonly gateMs: number
  readonly gateFirst: boolean
}

/** `clean` is not timed. Which goes first is left to chance: every fixed pattern falls into step with some other rhythm. */
async function inPairs<A, B>(
  count: number,
  bare: () => Promise<A>,
  gated: () => Promise<B>,
  clean: (result: A | B) => unknown = () => {},
): Promise<Pair[]> {
  const timed = async (work: () => Promise<A | B>) => {
    const startedAt = performance.now()
    const result = await work()
    const ms = performance.now() - startedAt
    await clean(result)
    return ms
  }
  const pairs: Pair[] = []
  for (let index = 0; index < WARM_UP + count; index++) {
    const gateFirst = Math.random() < 0.5
    const first = await timed(gateFirst ? gated : bare)
    const second = await timed(gateFirst ? bare : gated)
    pairs.push({ gateFirst, bareMs: gateFirst ? second : first, gateMs: gateFirst ? first : second })
  }
  return pairs.slice(WARM_UP)
}

function report(bareName: string, gateName: string, pairs: readonly Pair[]): void {
  // The second of a pair pays for what the first left behind: the two orders are weighed alike.
  const difference = (gateFirst: boolean) =>
    median(pairs.filter((pair) => pair.gateFirst === gateFirst).map(({ gateMs, bareMs }) => gateMs - bareMs))
  const added = (difference(true) + difference(false)) / 2
  const line = (name: string, ms: number, note = '') =>
    console.log(`${name.padEnd(26)} ${ms.toFixed(3).padStart(9)} ms${note}`)
  line(bareName, median(pairs.map(({ bareMs }) => bareMs)))
  line(gateName, median(pairs.map(({ gateMs }) => gateMs)))
  line('  added', added, `   target: at most 1 ms: ${added <= 1 ? 'met' : 'MISSED'}   (${pairs.length} pairs)\n`)
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return ((sorted[(sorted.length - 1) >> 1] ?? 0) + (sorted[sorted.length >> 1] ?? 0)) / 2
}
