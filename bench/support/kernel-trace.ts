// The kernel's own account of system calls: ftrace. Needs root and tracefs.
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { Unmeasured } from './peer-process.ts'

const INSTANCES = '/sys/kernel/tracing/instances'
// A buffer and settings of its own: whatever else traces on this machine is left as it is.
const INSTANCE = `${INSTANCES}/os-mutex-${process.pid}`
const BUFFER_KIB = 16_384

/** The numbers of the system calls that take part in a hand-off. */
const NUMBERS: Partial<Record<NodeJS.Architecture, Readonly<Record<string, number>>>> = {
  x64: { write: 1, fcntl: 72, flock: 73, epoll_wait: 232, epoll_pwait: 281 },
  arm64: { epoll_pwait: 22, fcntl: 25, flock: 32, write: 64 },
}

export interface Call {
  /** In ns of the monotonic clock, as precise as the trace: a microsecond. */
  readonly at: number
  readonly thread: number
  readonly process: number
  readonly name: string
  readonly isReturn: boolean
}

function put(file: string, text: string): void {
  writeFileSync(`${INSTANCE}/${file}`, text)
}

// As in:        node-21367   (  21367) [000] ..... 52655.990388: sys_enter: NR 73 (12, 6, 7fff42305dc0, d, 7fff42305d90, 0)
const LINE = /-(\d+) +\( *(\d+)\) +\[\d+\] +\S+ +(\d+)\.(\d{6}): sys_(enter|exit): NR (\d+)/

function parse(trace: string, names: ReadonlyMap<number, string>): Call[] {
  return trace.split('\n').flatMap((line) => {
    const found = LINE.exec(line)
    if (found === null) return []
    const [, thread, process, seconds, micros, kind, number] = found
    return [
      {
        at: Number(seconds) * 1e9 + Number(micros) * 1000,
        thread: Number(thread),
        process: Number(process),
        name: names.get(Number(number)) ?? '',
        isReturn: kind === 'exit',
      },
    ]
  })
}

/** What was called while `during` ran, in order. */
export async function traced(during: () => Promise<void>): Promise<readonly Call[]> {
  const numbers = NUMBERS[process.arch]
  if (numbers === undefined || process.getuid?.() !== 0 || !existsSync(INSTANCES))
    throw new Unmeasured('needs root and tracefs (`mount -t tracefs none /sys/kernel/tracing`)')
  const names = new Map(Object.entries(numbers).map(([name, number]) => [number, name]))
  const filter = [...names.keys()].map((number) => `id == ${number}`).join(' || ')
  const remove = () => rmdirSync(INSTANCE)
  mkdirSync(INSTANCE)
  process.once('exit', remove) // an interrupted run would go on tracing
  try {
    put('tracing_on', '0')
    put('trace_clock', 'mono')
    put('buffer_size_kb', String(BUFFER_KIB))
    put('options/record-tgid', '1')
    for (const event of ['sys_enter', 'sys_exit']) {
      put(`events/raw_syscalls/${event}/filter`, filter)
      put(`events/raw_syscalls/${event}/enable`, '1')
    }
    put('tracing_on', '1')
    await during()
    put('tracing_on', '0')
    return parse(readFileSync(`${INSTANCE}/trace`, 'latin1'), names)
  } finally {
    process.off('exit', remove)
    remove()
  }
}
