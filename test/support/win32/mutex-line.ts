// The line of a Win32 mutex, by the file of its record: whether it is held, and how many wait for it in the kernel.
import { createHash } from 'node:crypto'
import { basename, dirname } from 'node:path'
import { askForeign } from './foreign.ts'

/** What the kernel calls the mutex of a lock home that is not the default one: a second hand at docs/how-it-works.md. */
export function objectNameOf(path: string): string {
  const [, session, encoded = ''] = /^\.os-mutex-(s\d+~)?(.*)$/.exec(basename(path)) ?? []
  const base = encoded.replace(/\+(.)|%([0-9a-f]{4})/g, (_, upper: string | undefined, unit: string) =>
    upper === undefined ? String.fromCharCode(Number.parseInt(unit, 16)) : upper.toUpperCase(),
  )
  const hash = createHash('sha256')
    .update(`${dirname(path).toLowerCase()}\0${base}`, 'utf16le')
    .digest('hex')
  return `${session === undefined ? 'Global\\' : ''}os-mutex-${hash}`
}

export interface MutexLine {
  readonly isHeld: boolean
  readonly waiters: number
}

/** `undefined`: this Windows does not tell (see foreign.c). */
export function mutexLine(objectName: string): MutexLine | undefined {
  const told = askForeign('line', objectName)
  const [, held, waiters] = /^([01]) (\d+)$/.exec(told) ?? []
  if (told === 'unknown') return undefined
  if (held === undefined) throw new Error(`foreign.exe line ${objectName} said ${told}`)
  return { isHeld: held === '1', waiters: Number(waiters) }
}
