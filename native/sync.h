// The system's own mutex and condition, between threads of this process. They do two things that the standard library's
// do not:
// - A deadline counts by the monotonic clock in every build. std::condition_variable counts by the time of day if its
//   library has no pthread_cond_clockwait: Zig's libc++ for glibc 2.17 is such a library.
// - clang checks that a guarded field is touched only under its mutex:
//   https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
//   `npm run lint:native`, `npm run prebuild:all` and a build on macOS fail otherwise.
#pragma once

#include <chrono>

// NativeMutex and NativeCondition, in posix/include or win32/include: binding.gyp says which.
#include "sync_native.h"

#if defined(__clang__)
#define THREAD_SAFETY(attribute) __attribute__((attribute))
#else
#define THREAD_SAFETY(attribute)
#endif

#define CAPABILITY(kind) THREAD_SAFETY(capability(kind))
#define SCOPED_CAPABILITY THREAD_SAFETY(scoped_lockable)
// On a field: it is read and written only under this mutex. PT: what the pointer points to is.
#define GUARDED_BY(mutex) THREAD_SAFETY(guarded_by(mutex))
#define PT_GUARDED_BY(mutex) THREAD_SAFETY(pt_guarded_by(mutex))
// On a function: the caller has locked this mutex. Or the function locks it, unlocks it, or locks it if it is free.
#define REQUIRES(...) THREAD_SAFETY(requires_capability(__VA_ARGS__))
#define ACQUIRE(...) THREAD_SAFETY(acquire_capability(__VA_ARGS__))
#define RELEASE(...) THREAD_SAFETY(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) THREAD_SAFETY(try_acquire_capability(__VA_ARGS__))

namespace os_mutex {

// Not reentrant.
class CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  void lock() ACQUIRE() { native_.lock(); }
  bool tryLock() TRY_ACQUIRE(true) { return native_.tryLock(); }
  void unlock() RELEASE() { native_.unlock(); }

 private:
  friend class Condition;
  NativeMutex native_;
};

class SCOPED_CAPABILITY Guard {
 public:
  explicit Guard(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~Guard() RELEASE() { mutex_.unlock(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  Mutex& mutex_;
};

// Both waits unlock the mutex while they wait. Both may return for no reason, so the caller looks again in a loop:
//   while (!ready_) condition_.wait(mutex_);
//   while (!ready_ && condition_.waitUntil(mutex_, deadline)) continue;
class Condition {
 public:
  using Clock = std::chrono::steady_clock;

  Condition() = default;
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  void wait(Mutex& mutex) REQUIRES(mutex) { native_.wait(mutex.native_); }
  // False, and no wait: the deadline has passed.
  bool waitUntil(Mutex& mutex, Clock::time_point deadline) REQUIRES(mutex) {
    const std::chrono::nanoseconds left = deadline - Clock::now();
    if (left.count() <= 0) return false;
    // The limit fits every system's type.
    native_.waitFor(mutex.native_, left < kLongestWait ? left : kLongestWait);
    return true;
  }
  void notifyOne() { native_.notifyOne(); }
  void notifyAll() { native_.notifyAll(); }

 private:
  static constexpr std::chrono::nanoseconds kLongestWait = std::chrono::hours(1);
  NativeCondition native_;
};

}  // namespace os_mutex
