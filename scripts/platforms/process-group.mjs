// What the processes of a group are doing, for somebody who wants to know why they stand still.
import { readdirSync, readFileSync } from 'node:fs'

/** A paragraph for each process: its command line, and how many of its threads are in which state, in which function of the kernel. */
export function processesOf(group) {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && groupOf(name) === group)
  return pids
    .map((pid) => `${pid} ${read(`${pid}/cmdline`).replaceAll('\0', ' ').slice(0, 200)}\n${threadsOf(pid)}`)
    .join('\n')
}

function threadsOf(pid) {
  const counts = new Map()
  for (const thread of threadIds(pid)) {
    const folder = `${pid}/task/${thread}`
    const [state] = fieldsOf(folder)
    const what = `${read(`${folder}/comm`).trim()} ${state} ${read(`${folder}/wchan`)} ${read(`${folder}/syscall`).split(' ')[0]}`
    counts.set(what, (counts.get(what) ?? 0) + 1)
  }
  return [...counts].map(([what, count]) => `  ${count} × ${what}`).join('\n')
}

function threadIds(pid) {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch {
    return [] // it has just ended
  }
}

function groupOf(pid) {
  return Number(fieldsOf(pid)[2])
}

/** From the state on: what stands before it is a name, which may hold anything. */
function fieldsOf(folder) {
  return read(`${folder}/stat`)
    .replace(/^.*\) /s, '')
    .split(' ')
}

function read(file) {
  try {
    return readFileSync(`/proc/${file}`, 'utf8')
  } catch {
    return ''
  }
}
