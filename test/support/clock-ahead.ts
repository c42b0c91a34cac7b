// A program whose time of day is ahead of the kernel's: as seen by a wait that began just before somebody set the clock back.
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

export const aheadMs = 4000

// Of the C library it needs only syscall(), which glibc and musl both have.
const source = `
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
  const int result = (int)syscall(SYS_clock_gettime, clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ${aheadMs / 1000};
  return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec time;
  const int result = clock_gettime(CLOCK_REALTIME, &time);
  now->tv_sec = time.tv_sec;
  now->tv_usec = time.tv_nsec / 1000;
  return result;
}

time_t time(time_t *copy) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (copy != NULL) *copy = now.tv_sec;
  return now.tv_sec;
}
`

const compiler = process.env.CC ?? 'cc'
const processors: Partial<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' }

/** Why no program can be given another clock here. */
export function noClockAhead(): string | undefined {
  if (process.platform !== 'linux') return 'the C library of other systems than Linux takes no LD_PRELOAD'
  let machine: string
  try {
    machine = execFileSync(compiler, ['-dumpmachine'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  } catch {
    return `there is no C compiler ("${compiler}")`
  }
  const isOurs = machine.startsWith(`${processors[process.arch]}-`)
  return isOurs ? undefined : `"${compiler}" compiles for ${machine.trim()}, not for ${process.arch}`
}

/** The environment of a program whose clock is ahead. Makes a library in `folder`. */
export function clockAhead(folder: string): NodeJS.ProcessEnv {
  const library = join(folder, 'clock-ahead.so')
  execFileSync(compiler, ['-x', 'c', '-', '-O1', '-shared', '-fPIC', '-nostdlib', '-o', library], { input: source })
  const others = process.env.LD_PRELOAD
  return { ...process.env, LD_PRELOAD: others === undefined ? library : `${others}:${library}` }
}
