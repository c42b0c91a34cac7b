// What the storms have in common: each ends with its verdict, or says why it has none.

/** A storm under way. */
export interface Storm<R extends StormReport = StormReport> {
  /** What does the same again. */
  readonly command: string
  /** How far it has come. */
  readonly progress: string
  /** The broken promises that it has seen so far. */
  readonly violations: readonly string[]
  /** Rejects when the storm can't go on. Then it has proven nothing. */
  run(): Promise<StormReport & R>
  /** Ends all processes and removes all files, whatever has happened. */
  end(): Promise<void>
}

export interface StormReport {
  readonly violations: readonly string[]
}

/** How long a storm goes on. */
export interface StormLength {
  /**
   * A timed storm goes on for all of `seconds`, and needs one kill. Any other storm goes on until it has come to all
   * that was asked for: `seconds` is its limit, and it fails if it reaches it.
   */
  readonly isTimed: boolean
  readonly seconds: number
  /** Without any progress for so long, something hangs. */
  readonly hangSeconds: number
}

/** A storm ended before its verdict. */
export class EarlyEnd extends Error {
  constructor({ command, progress, violations }: Omit<Storm, 'run' | 'end'>, cause: unknown) {
    const lines = [
      `THE STORM ENDED EARLY and proves nothing: ${cause instanceof Error ? cause.message : String(cause)}`,
      `It had come to ${progress}.`,
      `${command} does the same again.`,
      ...violations.slice(0, 20).map((violation) => `NOT AS PROMISED: ${violation}`),
    ]
    super(lines.join('\n'), { cause })
  }
}

/** Runs a storm, ends it, and gives its report. Rejects with `EarlyEnd`. */
export async function runStorm<R extends StormReport>(storm: Storm<R>): Promise<R> {
  try {
    return await storm.run()
  } catch (error) {
    throw new EarlyEnd(storm, error)
  } finally {
    await storm.end()
  }
}

/** The options of a command that repeats a storm of this length. */
export function lengthOptions(counts: string, { isTimed, seconds }: StormLength): string {
  if (isTimed) return `--seconds=${seconds}`
  return Number.isFinite(seconds) ? `${counts} --seconds=${seconds}` : counts
}
