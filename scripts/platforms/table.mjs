// The results as one Markdown table, which reads well in a terminal, too.

/** @param {{ target: string, suite: string, results: object[], trouble?: string, seconds: number }[]} rows */
export function table(rows) {
  const head = ['target', 'suite', 'passed', 'failed', 'skipped', 'time', 'why skipped']
  const body = rows.map(({ target, suite, results, trouble, seconds }) => {
    const count = (outcome) => String(results.filter((result) => result.outcome === outcome).length)
    const why = trouble === undefined ? reasons(results) : `could not be run: ${trouble.split('\n')[0]}`
    return [target, suite, count('passed'), count('failed'), count('skipped'), `${Math.round(seconds)} s`, why]
  })
  const widths = head.map((_, column) => Math.max(...[head, ...body].map((cells) => cells[column].length)))
  // The last column is as long as it is.
  const line = (cells) =>
    `| ${cells.map((cell, column) => (column < 6 ? cell.padEnd(widths[column]) : cell)).join(' | ')} |`
  return [
    line(head),
    line(head.map((_, column) => '-'.repeat(column < 6 ? widths[column] : 3))),
    ...body.map(line),
  ].join('\n')
}

function reasons(results) {
  const counts = new Map()
  for (const { outcome, reason } of results) {
    if (outcome === 'skipped') counts.set(reason, (counts.get(reason) ?? 0) + 1)
  }
  return [...counts].map(([reason, count]) => `${count} × ${reason}`.replaceAll('|', '\\|')).join('; ')
}
