// How a process stands still in the middle of its work, holding what it holds, and how another one lets it go on.
import { existsSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Windows has no SIGCONT; this file takes its place. */
function thawFile(pid: number): string {
  return join(tmpdir(), `os-mutex-thaw-${pid}`)
}

/** Stops the calling process, from where it calls. On Windows only this thread, without which no call of a gate gets on. */
export function freezeSelf(): void {
  if (process.platform !== 'win32') {
    process.kill(process.pid, 'SIGSTOP')
    return
  }
  const never = new Int32Array(new SharedArrayBuffer(4))
  while (!existsSync(thawFile(process.pid))) Atomics.wait(never, 0, 0, 20)
  unlinkSync(thawFile(process.pid))
}

export function thaw(pid: number): void {
  if (process.platform === 'win32') writeFileSync(thawFile(pid), '')
  else process.kill(pid, 'SIGCONT')
}
