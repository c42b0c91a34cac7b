// Runs a storm as a program that can't end without a word: it ends with its verdict, or with the reason why it has none.
import { EarlyEnd, type Storm, type StormReport } from './storm.ts'

/** The last line of a storm that has passed begins so. An exit code of 0 without that line proves nothing. */
export const passed = 'STORM PASSED: '
const brokenCode = 1
const earlyCode = 2

/** So long may the clean-up after an early end take. */
const cleanUpMs = 30_000

export interface Loud<R extends StormReport> {
  /** What does the same again. */
  readonly command: string
  readonly open: () => Promise<Storm<R>>
  readonly tables: (report: R) => string
  /** What a storm that has passed has done. */
  readonly summary: (report: R) => string
}

export async function runLoudly<R extends StormReport>({ command, open, tables, summary }: Loud<R>): Promise<void> {
  let storm: Storm<R> | undefined
  let opening: Promise<Storm<R>> | undefined
  let hasSaid = false
  const sayEarly = (reason: unknown) => {
    process.exitCode = earlyCode
    if (hasSaid) return console.error(`And after that: ${reason}`)
    hasSaid = true
    console.error(new EarlyEnd(storm ?? { command, progress: 'nothing', violations: [] }, reason).message)
  }
  const broken = failureOfThisProcess()
  // Also where nothing was left to wait for, or somebody has called process.exit().
  process.once('exit', (code) => {
    if (!hasSaid) sayEarly(`its process exits (${code}) without a verdict`)
  })

  try {
    console.log(`${command}\ndoes the same again, as far as the timing of the kernel allows.\n`)
    opening = open()
    storm = await Promise.race([opening, broken])
    const report = await Promise.race([storm.run(), broken])
    await Promise.race([storm.end(), broken])
    console.log(`${tables(report)}\n`)
    const { violations } = report
    for (const violation of violations.slice(0, 20)) console.error(`NOT AS PROMISED: ${violation}`)
    const isKept = violations.length === 0
    console.log(isKept ? `${passed}${summary(report)}` : `STORM FAILED: ${violations.length} promises broken`)
    hasSaid = true
    process.exitCode = isKept ? 0 : brokenCode
  } catch (error) {
    sayEarly(error)
    setTimeout(() => process.exit(earlyCode), cleanUpMs).unref()
    // A storm that could not be opened has said so already.
    await opening?.then(
      (opened) => opened.end().catch(sayEarly),
      () => {},
    )
    // What the storm was just doing may still wait for something.
    process.exit(earlyCode)
  }
}

/** Rejects with the first thing that would end this process without a verdict. */
function failureOfThisProcess(): Promise<never> {
  const failure = new Promise<never>((_, reject) => {
    process.on('uncaughtException', (error, origin) => {
      const what =
        origin === 'unhandledRejection' ? 'a rejection that nobody handled' : 'an exception that nobody caught'
      console.error(error)
      reject(new Error(`${what}: ${error instanceof Error ? error.message : error}`, { cause: error }))
    })
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => reject(new Error(`${signal} ended it`)))
  })
  failure.catch(() => {})
  return failure
}
