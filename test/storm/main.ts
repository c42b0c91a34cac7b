// The long forms of the storms: see scripts/storm.mjs.
import { parseArgs } from 'node:util'
import { type CrashStormReport, crashCommand, longStorm, runCrashStorm } from './crash-storm.ts'
import { type GateStormReport, gateCommand, longGateStorm, runGateStorm } from './gate-storm.ts'
import { percent, table } from './report.ts'

/** Options that are numbers, each with its default. */
function numbers<K extends string>(args: readonly string[], defaults: Readonly<Record<K, number>>): Record<K, number> {
  const names = Object.keys(defaults) as K[]
  const options = Object.fromEntries(names.map((name) => [name, { type: 'string' } as const]))
  const { values } = parseArgs({ args: [...args], options })
  return Object.fromEntries(names.map((name) => [name, Number(values[name] ?? defaults[name])])) as Record<K, number>
}

async function crash(args: readonly string[]): Promise<readonly string[]> {
  const { kills, acquisitions, seconds, processes } = longStorm
  const seed = Date.now() % 1_000_000
  const options = { ...longStorm, ...numbers(args, { kills, acquisitions, seconds, processes, seed }) }
  console.log(`${crashCommand(options)}\ndoes the same again, as far as the timing of the kernel allows.\n`)
  const report = await runCrashStorm(options)
  console.log(`${crashTable(report)}\n\n${shareTable(report)}\n`)
  return report.violations
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

async function gate(args: readonly string[]): Promise<readonly string[]> {
  const { kills, seconds, processes } = longGateStorm
  const seed = Date.now() % 1_000_000
  const options = { ...longGateStorm, ...numbers(args, { kills, seconds, processes, seed }) }
  console.log(`${gateCommand(options)}\ndoes the same again, as far as the timing of the kernel allows.\n`)
  const report = await runGateStorm(options)
  console.log(`${gateTable(report)}\n\n${ledgerTable(report)}\n`)
  return report.violations
}

function gateTable({ kills, downloads, loads, looks, pruned, seconds }: GateStormReport): string {
  return table([
    ['what', 'times'],
    ['processes killed', kills],
    ['downloads begun', downloads],
    ['loads begun', loads],
    ['published files looked at', looks],
    ['files pruned at the end', pruned],
    ['seconds', seconds],
  ])
}

function ledgerTable({ ledgers }: GateStormReport): string {
  const head = ['model', 'connections', 'versions', 'kills', 'kills at rest', 'aborts', 'cuts']
  const rows = ledgers.map((ledger) => {
    const { bytes, connections, versions, kills, killsAtRest, aborts, cuts, served, bound } = ledger
    const inVersions = `${(served / bytes / versions).toFixed(2)}`
    return [mib(bytes), connections, versions, kills, killsAtRest, aborts, cuts, mib(served), inVersions, mib(bound)]
  })
  return table([[...head, 'served', 'times its versions', 'may be served'], ...rows])
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}

const storms: Readonly<Record<string, (args: readonly string[]) => Promise<readonly string[]>>> = { crash, gate }

const [which = '', ...args] = process.argv.slice(2)
const violations = (await storms[which]?.(args)) ?? [`There is no storm called "${which}"`]
for (const violation of violations.slice(0, 20)) console.error(`NOT AS PROMISED: ${violation}`)
console.log(`${violations.length} promises broken`)
process.exitCode = violations.length === 0 ? 0 : 1
