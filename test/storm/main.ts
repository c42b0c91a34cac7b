// The long forms of the storms: see scripts/storm.mjs.
import { parseArgs } from 'node:util'
import { CrashStorm, type CrashStormReport, crashCommand, longStorm } from './crash-storm.ts'
import { whyHostAlone } from './gate-crowd.ts'
import type { FileLedger } from './gate-model.ts'
import { GateStorm, type GateStormReport, gateCommand, longGateStorm } from './gate-storm.ts'
import { runLoudly } from './loudly.ts'
import { percent, table } from './report.ts'

/**
 * Options that are numbers above 0, each with its default. With `--seconds` alone the storm is timed: it goes on for all
 * of that time. With `--kills` or `--acquisitions` too, that time is a limit.
 */
function readOptions<K extends string>(args: readonly string[], defaults: Readonly<Record<K, number>>) {
  const names = Object.keys(defaults) as K[]
  const flagOf = (name: string) => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)
  const options = Object.fromEntries(names.map((name) => [flagOf(name), { type: 'string' } as const]))
  const { values } = parseArgs({ args: [...args], options })
  const numbers = names.map((name) => {
    const text = values[flagOf(name)]
    const number = text === undefined ? defaults[name] : Number(text)
    // No count is ever less than NaN: such a storm would be over before it began.
    if (!(number > 0)) throw new Error(`--${flagOf(name)}=${text} is not a number above 0`)
    return [name, number]
  })
  const isTimed = 'seconds' in values && !('kills' in values) && !('acquisitions' in values)
  return { isTimed, ...(Object.fromEntries(numbers) as Record<K, number>) }
}

async function crash(args: readonly string[]): Promise<void> {
  const { kills, acquisitions, seconds, hangSeconds, processes } = longStorm
  const seed = 1 + (Date.now() % 1_000_000)
  const options = { ...longStorm, ...readOptions(args, { kills, acquisitions, seconds, hangSeconds, processes, seed }) }
  await runLoudly({
    command: crashCommand(options),
    open: async () => new CrashStorm(options),
    tables: (report) => `${crashTable(report)}\n\n${shareTable(report)}`,
    summary: ({ kills, acquisitions }) =>
      `crash, seed ${options.seed}, ${kills} kills, ${acquisitions} acquisitions, 0 promises broken`,
  })
}

function crashTable(report: CrashStormReport): string {
  const { deaths, acquisitionsBy, refusals } = report
  const cutShort = deaths.wanting + deaths.owning + deaths.leaving
  return table([
    ['what', 'times'],
    ['processes killed', report.kills],
    ['- of them at a chosen place in their code', report.killsAtPoints],
    ['processes stopped for a while', report.stops],
    ['worker threads terminated', report.terminations],
    ['threads that died', deaths.threads],
    ['- of them while they held something', `${deaths.holders} (${percent(deaths.holders, deaths.threads)})`],
    ['acquisitions that death cut short', cutShort],
    ['- waiting, or before the owner said so', deaths.wanting],
    ['- while it held', deaths.owning],
    ['- on its way out', deaths.leaving],
    ['`abandoned` told', report.abandonedTold],
    ['acquisitions', report.acquisitions],
    ...Object.entries(acquisitionsBy).map(([how, count]) => [`- by ${how}`, count]),
    ...Object.entries(refusals).map(([why, count]) => [`ended without the lock: ${why}`, count]),
    ['longest wait, ms', report.longestWaitMs],
    ['seconds', report.seconds],
    ['acquisitions a second', report.acquisitions / report.seconds],
  ])
}

function shareTable({ shares, acquisitions }: CrashStormReport): string {
  const rows = shares.map((count, mutex) => [longStorm.mutexes[mutex] ?? '', count, percent(count, acquisitions)])
  return table([['mutex', 'acquisitions', 'share'], ...rows])
}

async function gate(args: readonly string[]): Promise<void> {
  const { kills, seconds, hangSeconds, processes } = longGateStorm
  const seed = 1 + (Date.now() % 1_000_000)
  const options = { ...longGateStorm, ...readOptions(args, { kills, seconds, hangSeconds, processes, seed }) }
  await runLoudly({
    command: gateCommand(options),
    open: () => GateStorm.open(options),
    tables: (report) => `${gateTable(report)}\n\n${ledgerTable(report)}`,
    summary: ({ kills, looks }) =>
      `gate, seed ${options.seed}, ${kills} kills${whyHostAlone === undefined ? '' : ' on the host alone'}, ${looks} looks, 0 promises broken`,
  })
}

function gateTable({ kills, downloads, loads, looks, contained, outrun, pruned, seconds }: GateStormReport): string {
  return table([
    ['what', 'times'],
    ['processes killed', kills],
    [`processes in containers${whyHostAlone === undefined ? '' : ` (${whyHostAlone})`}`, contained],
    ['downloads begun', downloads],
    ['- given up, since their server changed too fast', outrun],
    ['loads begun', loads],
    ['published models looked at', looks],
    ['files pruned at the end', pruned],
    ['seconds', seconds],
  ])
}

function ledgerTable({ ledgers }: GateStormReport): string {
  const head = ['model', 'connections', 'versions', 'kills', 'kills at rest', 'aborts', 'cuts']
  const rows = ledgers.flatMap((ledger) => {
    const { connections, versions, kills, killsAtRest, aborts, cuts, files } = ledger
    const whole = [mib(ledger.bytes), connections, versions, kills, killsAtRest, aborts, cuts]
    const [only] = files
    if (files.length === 1 && only) return [[...whole, ...served(only)]]
    const parts = files.map((file, index) => [
      `- part ${index + 1}: ${mib(file.bytes)}`,
      '',
      file.versions,
      '',
      '',
      '',
      '',
      ...served(file),
    ])
    return [[...whole, '', '', ''], ...parts]
  })
  return table([[...head, 'served', 'times its versions', 'may be served'], ...rows])
}

function served({ bytes, versions, served, bound }: FileLedger): string[] {
  return [mib(served), (served / bytes / versions).toFixed(2), mib(bound)]
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}

const storms: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = { crash, gate }

const [which = '', ...args] = process.argv.slice(2)
const storm = storms[which]
if (storm === undefined) throw new Error(`There is no storm called "${which}"`)
await storm(args)
