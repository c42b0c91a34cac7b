// Linux: the thread is cancelled. It needs no signal handler in the user's process (the C library has one for this),
// and no interleaving loses the request: whether it comes before the call, in it or after it, the thread ends as soon
// as cancellation is enabled. Only one system call runs while it is enabled, and that owns nothing that must be
// unwound.
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "cancellable_flock.h"
#include "endable_flock.h"
#include "lock_file.h"

namespace os_mutex {
namespace {

// musl does not know this name of confstr, and unwinds nothing.
bool isGlibc() { return ::confstr(_CS_GNU_LIBC_VERSION, nullptr, 0) > 0; }

// glibc ends a cancelled thread with the unwinder of this library, loads it when the first thread is cancelled, and
// calls abort() if it can't: https://sourceware.org/git/?p=glibc.git;a=blob;f=nptl/pthread_cancel.c Node is linked with
// it, Bun is not. Once loaded it stays, and is found without opening a file.
int loadUnwinder() {
  static std::atomic<bool> loaded{!isGlibc()};
  if (loaded.load()) return 0;
  if (::dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL) != nullptr) {
    loaded.store(true);
    return 0;
  }
  // dlopen gives no errno. The likely cause can be checked: is a descriptor left?
  const Descriptor probe(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const bool isFull = !probe && (errno == EMFILE || errno == ENFILE);
  return isFull ? errno : ENOTSUP;
}

class CancellableFlock final : public EndableFlock {
 public:
  int prepare(const char*& call) override {
    call = "dlopen(\"libgcc_s.so.1\")";
    return loadUnwinder();
  }

  int lock(int fd) override { return cancellableFlock(fd); }

  void end(pthread_t thread) override {
    pthread_cancel(thread);
    pthread_join(thread, nullptr);
  }
};

}  // namespace

std::unique_ptr<EndableFlock> EndableFlock::make() { return std::make_unique<CancellableFlock>(); }

}  // namespace os_mutex
