// One way out for every end of the demo: success, failure, Ctrl-C. The steps must be synchronous, since nothing else runs
// in the 'exit' event.
const steps: (() => void)[] = []

/** Runs `step` when the process ends; the steps run in reverse order. */
export function atExit(step: () => void): void {
  steps.push(step)
}

process.once('exit', () => {
  for (const step of steps.reverse()) step()
})

for (const [signal, number] of [
  ['SIGHUP', 1],
  ['SIGINT', 2],
  ['SIGTERM', 15],
] as const) {
  // The exit code that a shell gives a program that the signal ended.
  process.once(signal, () => {
    process.stderr.write(`\nThe demo was ended by ${signal}, before its verdict.\n`)
    process.exit(128 + number)
  })
}
