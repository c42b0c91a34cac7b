// The C library may end the thread at any instruction.
#include <features.h>

#if defined(__GLIBC__) || !defined(__x86_64__)

#include <pthread.h>
#include <sys/file.h>

#include <cerrno>

#include "cancellable_flock.h"

namespace os_mutex {

// First enabled, then asynchronous: musl looks for a pending request only when the type changes.
int cancellableFlock(int fd) {
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &ignored);
  // NOLINTNEXTLINE(cert-pos47-c, concurrency-thread-canceltype-asynchronous)
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &ignored);
  const int error = ::flock(fd, LOCK_EX) == 0 ? 0 : errno;
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &ignored);
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  return error;
}

}  // namespace os_mutex

#endif
