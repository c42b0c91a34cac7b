// flock(LOCK_EX) as a cancellation point: cancellable_flock_linux.cc, and cancellable_flock_musl_x64.cc for one C
// library on one processor.
#pragma once

namespace os_mutex {

// The thread runs with cancellation disabled. It can be cancelled in here, before, in and after the system call, and
// also by a request that came earlier. It is disabled again when this returns. 0 or errno.
int cancellableFlock(int fd);

}  // namespace os_mutex
