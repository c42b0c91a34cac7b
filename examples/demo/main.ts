// `npm run demo`: many processes want one model, two of them die, and nobody notices but the verdict.
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { atExit } from './at-exit.ts'
import { Lines } from './lines.ts'
import { type DemoModel, serveTinyModel } from './model.ts'
import { Narrator } from './narration.ts'
import { type DemoOptions, readOptions, UsageError, usage } from './options.ts'
import { paintFor } from './paint.ts'
import { Play } from './play.ts'
import { Screen } from './screen.ts'
import { formatFailures, formatTable, formatVerdict } from './table.ts'
import { judge } from './verdict.ts'
import type { View } from './view.ts'

function makeFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'os-mutex-demo-')))
  // A process that is just being killed may still make a file.
  atExit(() => rmSync(folder, { recursive: true, force: true, maxRetries: 10 }))
  return folder
}

async function chooseModel({ source, bytes, bytesPerSecond }: DemoOptions, folder: string): Promise<DemoModel> {
  return source === undefined ? serveTinyModel(folder, bytes, bytesPerSecond) : { source, label: source }
}

/** Gives the process's exit code. */
async function runDemo(options: DemoOptions): Promise<number> {
  const { stdout } = process
  const startedAt = performance.now()
  const folder = makeFolder()
  const model = await chooseModel(options, folder)

  const play: Play = new Play(folder, model, (participant, report) => {
    const turn = narrator.tell(participant.record, report)
    if (turn !== undefined) view.happened(participant.record, turn)
  })
  const narrator = new Narrator(play.records)
  const hasScreen = stdout.isTTY && process.env.TERM !== 'dumb'
  const view: View = hasScreen ? new Screen(stdout, model.label, play.records) : new Lines(model.label)
  const evidence = await play.perform()
  view.close()

  const findings = judge(evidence)
  const isKept = findings.every(({ kept }) => kept)
  const paint = paintFor(stdout)
  const lastWord = isKept ? paint('green', 'Every promise was kept') : paint('red', 'A PROMISE WAS BROKEN')
  const took = `${((performance.now() - startedAt) / 1000).toFixed(1)} s`
  const lines = [
    ...formatTable(play.records, paint),
    '',
    ...formatVerdict(findings, paint),
    '',
    ...formatFailures(play.records),
    `${lastWord}, in ${took}.`,
  ]
  stdout.write(`${lines.join('\n')}\n`)
  return isKept ? 0 : 1
}

try {
  const options = readOptions(process.argv.slice(2))
  if (options === undefined) console.log(usage)
  else process.exit(await runDemo(options))
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(`${error.message}\n\n${usage}`)
  process.exitCode = 2
}
