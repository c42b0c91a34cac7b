// flock(LOCK_EX) that another thread can end at any moment: endable_flock_{linux,darwin}.cc.
#pragma once

#include <pthread.h>

#include <memory>

namespace os_mutex {

// Belongs to one thread, which calls lock(). The thread's creator calls the rest.
class EndableFlock {
 public:
  static std::unique_ptr<EndableFlock> make();
  virtual ~EndableFlock() = default;

  // Gets everything that lock() and end() need, before the thread starts, so that neither can fail for lack of it.
  // 0 or errno; then `call` names the call that failed.
  virtual int prepare(const char*& call) = 0;

  // Waits for the lock. The thread runs with cancellation disabled. 0 or errno; EINTR: the wait ended without a reason.
  virtual int lock(int fd) = 0;

  // Ends a thread that is in lock(), is about to call it or has left it, and joins it. The thread calls lock() at most
  // once more. It may still have got the lock, so the caller unlocks.
  virtual void end(pthread_t thread) = 0;
};

}  // namespace os_mutex
