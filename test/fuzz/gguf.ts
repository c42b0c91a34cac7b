// Changes tiny GGUFs at random for a fixed time, and sees that the readers give a verdict on each: gguf.js SECONDS SEED FOLDER. Prints
// what it did as JSON. What breaks a reader is written into the folder, as small as it could be made.
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { ggufHeaderBytes, whyNotGguf } from '#download/gguf/header'
import { anyGguf, ggufLies } from '../support/gguf-bytes.ts'
import { verdictOn } from '../support/gguf-verdict.ts'
import { type Damage, damaged, damages } from '../support/properties.ts'
import { makeTinyGguf } from '../support/tiny-gguf.ts'

/** What `npm run test:fuzz` reads. */
export interface FuzzReport {
  readonly executions: number
  readonly seconds: number
  readonly verdicts: number
  readonly crash?: Crash
}

interface Crash {
  readonly path: string
  readonly error: string
}

const [seconds, seed, folder = ''] = process.argv.slice(2)

/** A file of which only the head is there, of the size of the whole, and what happens to it. */
type Case = [{ readonly head: Buffer; readonly size: number }, Damage[]]

/** The heads of models that llama.cpp loads: what is in their tensors is not looked at. */
function modelHeads(): Case[0][] {
  const made = mkdtempSync(join(tmpdir(), 'os-mutex-fuzz-corpus-'))
  try {
    return [1, 2, 3].map((model) => {
      const { path, bytes } = makeTinyGguf({ path: join(made, `${model}.gguf`), bytes: 256 * 1024, seed: model })
      return { head: readFileSync(path).subarray(0, 32 * 1024), size: bytes }
    })
  } finally {
    rmSync(made, { recursive: true })
  }
}

const models = fc.constantFrom(...modelHeads())
const small = anyGguf.map(({ bytes }) => ({ head: bytes, size: bytes.length }))
const cases: fc.Arbitrary<Case> = fc.tuple(fc.oneof(small, models), damages(ggufLies, 8))

/** Numbers and names left out. */
const verdicts = new Set<string>()

async function judge(content: Buffer, size: number): Promise<void> {
  const header = whyNotGguf(content.subarray(0, ggufHeaderBytes))
  const found = await verdictOn(content, size)
  verdicts.add(found?.replace(/"(\\.|[^"])*"|\d+/g, '…') ?? 'whole')
  if (header !== undefined && size >= ggufHeaderBytes) assert.equal(found, header)
  if (found === undefined) assert.equal(await verdictOn(content, size + 64), undefined, 'bytes at the end are no fault')
}

const sizeOf = (content: Buffer, head: Buffer, size: number) =>
  Math.max(content.length, size - head.length + content.length)
const property = fc.asyncProperty(cases, ([{ head, size }, damage]) => {
  const content = damaged(head, damage)
  return judge(content, sizeOf(content, head, size))
})

const begun = performance.now()
const details = await fc.check(property, {
  seed: Number(seed),
  numRuns: Number.MAX_SAFE_INTEGER,
  interruptAfterTimeLimit: Number(seconds) * 1000,
})
const report: FuzzReport = {
  executions: details.numRuns,
  seconds: (performance.now() - begun) / 1000,
  verdicts: verdicts.size,
  ...(details.counterexample === null ? {} : { crash: keep(details.counterexample[0], details.errorInstance) }),
}
console.log(JSON.stringify(report))

/** Writes down what broke a reader. */
function keep([{ head }, damage]: Case, error: unknown): Crash {
  const path = join(folder, `gguf-crash-${seed}.gguf`)
  writeFileSync(path, damaged(head, damage))
  return { path, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
}
